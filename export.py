"""Run -> DIR/bundle: python export.py run=DIR [ranker=DIR], see python export.py --help."""

from recsys.commands.installation import importing

with importing():
    from recsys.commands.export import main

if __name__ == "__main__":
    main()
