"""Prepared dataset -> run: python train.py [GROUP=FILE] [KEY=VALUE] ..., see python train.py --help."""

from recsys.commands.installation import importing

with importing():
    from recsys.commands.train import main

if __name__ == "__main__":
    main()
