"""Who was accused and is never banned: what is known of that is bounded."""

from ipaddress import ip_address

from dockerjail.service.ignored import ACCUSED, CONTAINERS, SAMPLE, Ignored


def test_what_is_known_of_the_ignored_is_bounded() -> None:
    ignored = Ignored()
    for number in range(2 * CONTAINERS):
        ignored.note(f"x{number}", ip_address(0x0A000000 + number), "it is in ignoreip", 1.0)
        ignored.counted(f"y{number}")
    for number in range(2 * SAMPLE):
        ignored.note("web", ip_address(0x0A000000 + number), "it is in ignoreip", 1.0)
    assert len(ignored.by) == ACCUSED
    assert len(ignored._last) == CONTAINERS
    assert len(ignored._last["web"]) == SAMPLE
    assert ignored.by["web", ip_address(0x0A000000)].count == 1
