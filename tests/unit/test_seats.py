"""Containers of one service run its jails by one rule."""

from dataclasses import replace

from dockerjail.jail.policy import JailPolicy, Origin
from dockerjail.jail.rule import Rule
from dockerjail.model import Container
from dockerjail.service.seats import Seats

RULE = JailPolicy(name="login", origin=Origin.LABEL, rule=Rule(failregex=("x <HOST>",)))
OTHER = replace(RULE, rule=Rule(failregex=("y <HOST>",)))
ONE, TWO = (Container(id=f"c{n}", name=f"web-{n}", service="shop-web") for n in (1, 2))


def test_replicas_with_one_rule_sit_together():
    seats = Seats()
    assert seats.choose(ONE, [RULE], lambda *_: None) == ([RULE], [])
    seats.take("c1", ["login@shop-web"])
    assert seats.choose(TWO, [RULE], lambda *_: RULE) == ([RULE], [])
    seats.take("c2", ["login@shop-web"])
    assert set(seats.of("login@shop-web")) == {"c1", "c2"}


def test_the_first_rule_stands_while_its_container_runs():
    seats = Seats()
    seats.take("c1", ["login@shop-web"])
    wanted, (problem,) = seats.choose(TWO, [OTHER], lambda *_: RULE)
    assert wanted == []
    assert problem.place == "container web-2, jail login"
    assert "different rule" in problem.what
    assert seats.unseated() == ("c2",)
    assert seats.choose(TWO, [OTHER], lambda *_: None) == ([OTHER], [])
    assert seats.unseated() == ()


def test_who_leaves_is_forgotten():
    seats = Seats()
    seats.take("c1", ["login@shop-web", "other@shop-web"])
    seats.choose(TWO, [OTHER], lambda *_: RULE)
    seats.leave("c1")
    seats.leave("c2")
    assert seats.of("login@shop-web") == ()
    assert seats.unseated() == ()


def test_a_container_that_changes_its_jails_leaves_the_old_ones():
    seats = Seats()
    seats.take("c1", ["login@shop-web"])
    seats.take("c1", ["other@shop-web"])
    assert seats.of("login@shop-web") == ()
    assert set(seats.of("other@shop-web")) == {"c1"}
