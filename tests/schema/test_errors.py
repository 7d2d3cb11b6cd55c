from recsys.schema.errors import is_out_of_memory, led_to


def test_errors_that_lead_to_each_other_are_each_seen_once():
    """A logger that raises the same error at each call makes a ring of it; a training waited for ever."""
    first, second = OSError("the disk"), RuntimeError("the logger")
    first.__context__, second.__context__ = second, first
    assert list(led_to(first)) == [first, second]
    assert not is_out_of_memory(first)
    second.__cause__ = MemoryError()
    assert is_out_of_memory(first)
