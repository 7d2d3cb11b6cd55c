"""How metrics are called in front of people, and of which of them less is better."""

LESS_IS_BETTER = ("log_loss", "normalised_entropy", "calibration_error")

_SPELLED = {
    "pr_auc": "PR-AUC",
    "diversity_content": "diversity by content",
    "diversity_embedding": "diversity by embedding",
    "gini": "Gini coefficient of exposure",
    "exposure_entropy": "entropy of exposure",
}


def metric_name(key: str) -> str:
    """How a metric is called in front of people: `ndcg@10` is NDCG@10, `hit_rate@5` is hit rate@5."""
    name, _, k = key.partition("@")
    if name in _SPELLED:
        shown = _SPELLED[name]
    else:
        shown = name.upper() if name in ("ndcg", "mrr", "map", "auc", "gauc") else name.replace("_", " ")
    return f"{shown}@{k}" if k else shown
