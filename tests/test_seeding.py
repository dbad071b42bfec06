"""Named random streams."""

from nfrepro.seeding import stream_seed


def test_streams_are_what_they_always_were() -> None:
    # A changed value would change every stored result: these are for ever.
    assert stream_seed("order", 0, 0) == 3188057147386964236
    assert stream_seed("weights", 1) == 7329823595125656181


def test_streams_differ_by_name_and_by_every_number() -> None:
    seeds = [stream_seed(name, a, b) for name in ("order", "weights") for a in range(10) for b in range(10)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
