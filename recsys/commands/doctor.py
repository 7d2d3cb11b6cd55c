"""The command `recsys doctor`: what is wrong with the installation, or with tables that it is given.

Imports nothing but the standard library, because it has to speak when the rest cannot be imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recsys.commands.installation import examine, importing


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints every finding and exits with 0, or 2 when there is a problem; with keys, looks at tables."""
    if arguments:
        with importing():
            from recsys.commands.doctor_data import main as look_at_tables
        look_at_tables(list(arguments))
        return
    findings = examine()
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        mark = "PROBLEM" if finding.is_problem else "note" if finding.advice else "ok"
        print(f"{mark:8}{finding.what:{width}}  {finding.found}")
    advised = [finding for finding in findings if finding.advice]
    for finding in advised:
        print(f"{'error' if finding.is_problem else 'note'}: {finding.advice}", file=sys.stderr)
    sys.exit(2 if any(finding.is_problem for finding in findings) else 0)


if __name__ == "__main__":
    main()
