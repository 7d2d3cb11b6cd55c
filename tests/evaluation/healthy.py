"""Small results with which nothing is wrong, and what makes them ill."""


def block(**metrics):
    named = {name.replace("_at_", "@"): value for name, value in metrics.items()}
    return {"metrics": named, "intervals": dict.fromkeys(named)}


def piece(group, name, value, *, key="ndcg@10", difference=0.02, interval=(0.01, 0.03), users=200):
    compared = {"baseline": "ease", "metric": key, "difference": difference, "interval": list(interval)}
    return {
        "group": group,
        "name": name,
        "description": "",
        "size": 1000 - users,
        "users": users,
        "small": users < 50,
        "metrics": {key: value},
        "intervals": {key: None},
        "baselines": {"ease": {"metrics": {key: value - difference}, "intervals": {key: None}}},
        "comparisons": [compared],
    }


def healthy():
    """Results of a retrieval model with which nothing is wrong."""
    own = block(
        ndcg_at_10=0.2,
        coverage_at_10=0.5,
        novelty_at_10=9.0,
        popularity_lift_at_10=0.1,
        personalisation_at_10=0.8,
        diversity_content_at_10=0.6,
    )
    own["intervals"]["ndcg@10"] = [0.18, 0.22]
    return {
        "run": "/runs/a b",
        "task": "retrieval",
        "leaks": False,
        "dataset": {"name": "books"},
        "protocol": {"split": {"kind": "global_time"}},
        "options": {"confidence": 0.95},
        "counts": {"users": 500, "queries": 900, "relevant": 900, "relevant_outside_catalogue": 9},
        "main_metric": "ndcg@10",
        "verdict": {"outcome": "better", "against": "ease"},
        **own,
        "baselines": {
            "ease": block(ndcg_at_10=0.15),
            "popularity": block(ndcg_at_10=0.05, novelty_at_10=7.0, diversity_content_at_10=0.7),
        },
        "comparisons": [
            {"baseline": "ease", "metric": "ndcg@10", "difference": 0.05, "interval": [0.03, 0.07]}
        ],
        "slices": [
            piece("user", "cold", 0.15),
            piece("item", "new", 0.12),
            *(piece("history_length", name, 0.2) for name in "abcdefgh"),
            *(piece("days_since_train", f"{10 * n}.0-{10 * n + 10}.0", 0.2) for n in range(4)),
        ],
        "latency": {"requests": 200, "p50_ms": 3.0, "p99_ms": 9.0, "threads": 2},
        "training": {
            "monitor": "ndcg@10",
            "best_epoch": 3,
            "epochs": [1, 2, 3, 4],
            "train_loss": [4.0, 3.0, 2.5, 2.4],
            "validation": {"ndcg@10": [0.1, 0.15, 0.2, 0.198]},
        },
    }


def healthy_ranking():
    """Results of a ranking model with which nothing is wrong."""
    results = healthy()
    own = block(auc=0.75, log_loss=0.5)
    own["intervals"]["auc"] = [0.73, 0.77]
    results |= {
        "task": "ranking",
        "main_metric": "auc",
        "verdict": {"outcome": "better", "against": "item_rate"},
        **own,
        "counts": {"users": 500, "rows": 9000, "positives": 4000, "rows_of_unknown_items": 90},
        "baselines": {"item_rate": block(auc=0.7, log_loss=0.6)},
        "comparisons": [
            {"baseline": "item_rate", "metric": "auc", "difference": 0.05, "interval": [0.03, 0.07]}
        ],
        "slices": [],
        "reliability": [
            {"predicted": 0.2, "observed": 0.22, "rows": 5000},
            {"predicted": 0.7, "observed": 0.67, "rows": 4000},
        ],
    }
    del results["training"]
    return results


def compared(results, difference, interval):
    results["comparisons"][0] |= {"difference": difference, "interval": interval}


def replaced(results, *pieces):
    """The slices with these in place of those of the same name."""
    named = {(one["group"], one["name"]): one for one in pieces}
    results["slices"] = [named.get((one["group"], one["name"]), one) for one in results["slices"]]


def ageing(results, *values):
    replaced(
        results,
        *(piece("days_since_train", f"{10 * n}.0-{10 * n + 10}.0", value) for n, value in enumerate(values)),
    )


def validated(results, *values, losses=(4.0, 3.0, 2.5, 2.4)):
    results["training"] |= {"validation": {"ndcg@10": list(values)}, "train_loss": list(losses)}
