"""Run + prepared dataset -> DIR/evaluation: python evaluate.py run=DIR, see python evaluate.py --help."""

from recsys.commands.installation import importing

with importing():
    from recsys.commands.evaluate import main

if __name__ == "__main__":
    main()
