"""Types of what the scripted modules hand to each other, by the names that their signatures use.

NOTE: TorchScript lets no class and no named tuple hold `Any`, so that what a request says stays an argument
each, and a record of it a dictionary.

Legend: B examples, V rows of bags.
"""
# ruff: noqa: UP006, UP035, UP045 (scripted)

from typing import Any, Dict, List, Optional, Tuple

import torch

# Raw values by field.
Record = Dict[str, Any]
# Values [V], which are rows of a table, and lengths [B]: one sparse feature of B examples.
Bag = Tuple[torch.Tensor, torch.Tensor]
# The bags of all sparse features by name, and the dense values [B, number of dense features].
Features = Tuple[Dict[str, Bag], torch.Tensor]
# By role: the records of B examples, and the rows [B] of the users and items that they are about.
Records = Dict[str, List[Record]]
Rows = Dict[str, torch.Tensor]
# What B requests say of the past: histories of catalogue rows, when each item was liked and whether it was,
# where they say so, and their contexts, which have the time of the request.
Past = Tuple[Bag, Optional[List[List[Any]]], Optional[List[List[bool]]], List[Record]]
