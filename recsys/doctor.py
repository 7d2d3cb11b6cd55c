"""Says which command took this one's place."""

from recsys.schema.errors import end_older_form

if __name__ == "__main__":
    end_older_form("recsys.doctor", "recsys doctor")
