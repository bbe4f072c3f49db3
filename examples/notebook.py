"""As in a notebook or at the prompt: functions that no module has, lambdas and closures, start as they are.

python -c "$(cat examples/notebook.py)"
python examples/notebook.py
"""

from __future__ import annotations

import warmfork


def make_scaler(factor):  # type: ignore[no-untyped-def]
    return lambda values: [factor * value for value in values]


if __name__ == "__main__":
    with warmfork.Template() as template:
        children = [template.start(make_scaler(factor), ([1, 2, 3],)) for factor in (2, 10)]
        for child in children:
            print(child.result(timeout=30))
