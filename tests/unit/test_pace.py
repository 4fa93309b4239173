"""How fast the files of a log turn over, and when they are not to be followed."""

import pytest

from dockerjail.docker.pace import FILE_LIFE, SMALL, Pace, file_size


@pytest.mark.parametrize(
    ("driver", "options", "size"),
    [
        ("json-file", {}, 0),
        ("json-file", {"max-size": "10m"}, 10_000_000),
        ("json-file", {"max-size": "1.5 GiB"}, 1_500_000_000),
        ("json-file", {"max-size": "-1"}, 0),
        ("json-file", {"max-size": "much"}, 0),
        ("local", {}, 20_000_000),
        ("local", {"max-size": "512k"}, 512_000),
    ],
)
def test_the_size_of_a_file_is_what_the_log_option_says(driver, options, size):
    assert file_size(driver, options) == size


def test_only_files_that_rotate_and_hold_little_are_small():
    assert [Pace(size).small for size in (0, 1, SMALL - 1, SMALL)] == [False, True, True, False]


def test_files_that_live_shorter_than_a_follower_may_be_busy_are_hasty():
    pace = Pace(10_000_000)
    pace.pour(1_900_000, 100.0)
    assert not pace.hasty(100.0)
    pace.pour(200_000, 100.0)
    assert pace.hasty(100.0)
    assert not pace.hasty(101.0)


def test_after_a_flood_of_any_size_following_is_tried_again_within_the_life_of_a_file():
    pace = Pace(10_000_000)
    pace.pour(10**12, 100.0)
    assert pace.hasty(100.0 + FILE_LIFE - 1.1)
    assert not pace.hasty(100.0 + FILE_LIFE)


def test_one_file_without_end_is_never_hasty():
    pace = Pace(0)
    pace.pour(10**12, 100.0)
    assert not pace.hasty(100.0)
