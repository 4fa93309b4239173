"""
The main job on Podman 5: real containers behind Docker's API, a real kernel, real packets.

Published ports are netavark's work there, in its own nftables table behind ours.
"""

import pytest

from tests.lab import images
from tests.lab.jailer import SERVE, banned, failed_login, follows, say, serve

pytestmark = pytest.mark.e2e

COMPOSE = """\
services:
  web:
    image: {image}
    command: ["sh", "-c", "httpd -p 8000; exec sleep 100000"]
    ports: ["8080:8000"]
    labels:
      dockerjail.enable: "true"
      dockerjail.jail.flask.failregex: "{regex}"
      dockerjail.jail.flask.maxretry: "2"
"""


def test_five_failures_ban_and_four_do_not(podman, attacker, jailer_for):
    serve(podman, "web")
    podman.run(images.busybox(podman), *SERVE, options=["--name", "other", "-p", "9090:8000"])
    jailer = jailer_for(podman).ready()
    follows(jailer, "web")
    bad, good = attacker(podman), attacker(podman)
    for each in (bad, good):
        assert each.reaches(podman.address, 8080)

    say(podman, "web", [failed_login(bad.address)] * 4)
    status = jailer.wait(lambda s: s["jails"][0]["failures"] == 4)
    assert status["engine"]["version"].startswith("Podman 5.")
    assert banned(status) == set()
    assert bad.reaches(podman.address, 8080)

    say(podman, "web", [failed_login(bad.address)])
    jailer.wait_banned(bad.address)
    assert not bad.reaches(podman.address, 8080)
    assert bad.reaches(podman.address, 9090)
    assert good.reaches(podman.address, 8080)
    status = jailer.status()
    (ban,) = status["bans"]
    assert ban["scope"]["ports"] == ["8080/tcp"]
    assert ban["packets"] > 0
    assert status["ok"]


def test_neither_the_gateway_nor_a_neighbour_is_banned(podman, attacker, guarded):
    jailer = guarded(podman)
    bad = attacker(podman)
    (own,) = podman.api("GET", "/containers/web/json")["NetworkSettings"]["Networks"].values()
    for address in (own["Gateway"], own["IPAddress"], bad.address):
        say(podman, "web", [failed_login(address)] * 5)
    jailer.wait_banned(bad.address)
    assert f"Ignore {own['Gateway']}" in jailer.log
    assert f"Ignore {own['IPAddress']}" in jailer.log


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_failures_and_bans_survive_both_of_us_going_away(end, podman, attacker, guarded):
    jailer = guarded(podman)
    bad = attacker(podman)
    say(podman, "web", [failed_login(bad.address)] * 3)
    jailer.wait(lambda s: s["jails"][0]["failures"] == 3)
    getattr(podman, end)()
    getattr(jailer, end)()
    podman.start()
    say(podman, "web", [failed_login(bad.address)])
    status = jailer.ready().wait(lambda s: s["jails"] and s["jails"][0]["failures"] == 4)
    assert banned(status) == set()
    say(podman, "web", [failed_login(bad.address)])
    jailer.wait_banned(bad.address)
    assert not bad.reaches(podman.address, 8080)
    podman.docker("restart", "--time", "0", "web")
    follows(jailer, "web")
    assert not bad.reaches(podman.address, 8080)


def test_a_service_of_compose_keeps_its_bans_when_it_is_made_anew(
    podman, attacker, jailer_for, tmp_path
):
    file = tmp_path / "shop" / "compose.yaml"
    file.parent.mkdir()
    regex = "^.* from IP: <HOST>"
    file.write_text(COMPOSE.format(image=images.busybox(podman), regex=regex))
    podman.compose(file, "up", "--detach")
    jailer = jailer_for(podman).ready()
    (name,) = [c["name"] for c in jailer.wait(lambda s: bool(s["containers"]))["containers"]]
    follows(jailer, name)
    bad = attacker(podman)
    say(podman, name, [failed_login(bad.address)] * 2)
    status = jailer.wait_banned(bad.address)
    assert status["bans"][0]["jail"] == "flask@shop-web"
    podman.compose(file, "up", "--detach", "--force-recreate", "--timeout", "0")
    follows(jailer, name)
    assert {ban["jail"] for ban in jailer.status()["bans"]} == {"flask@shop-web"}
    assert not bad.reaches(podman.address, 8080)
