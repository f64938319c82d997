"""The broker's core, by packets alone."""

from hypothesis import given
from hypothesis import strategies as st

from simulator.broker.core import Broker
from simulator.broker.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Filter,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    Unsubscribe,
)
from simulator.broker.topics import covers, matches, valid_filter


def connected(*clients, **options):
    broker = Broker()
    for client in clients:
        assert broker.receive(client, Connect(client, **options), 0) == [(client, ConnAck())]
    return broker


def subscribe(broker, client, pattern, **options):
    out = broker.receive(client, Subscribe(1, (Filter(pattern, **options),)), 0)
    assert isinstance(out[0][1], SubAck)
    return out[1:]


def heard(broker, sender, packet):
    return [(c, p.payload) for c, p in broker.receive(sender, packet, 0) if isinstance(p, Publish)]


def test_retained_goes_to_the_new_subscriber_and_an_empty_one_clears_it():
    broker = connected("a", "b")
    broker.receive("a", Publish("t", b"kept", retain=True), 0)
    assert [p.retain for _, p in subscribe(broker, "b", "t")] == [True]
    broker.receive("a", Publish("t", b"", retain=True), 0)
    assert subscribe(broker, "b", "t") == []


def test_the_will_speaks_when_the_client_vanishes_and_not_on_disconnect():
    for leave, expected in ((lambda b: b.dropped("a", 0), [b"gone"]), (lambda b: b.receive("a", Disconnect(), 0), [])):
        broker = Broker()
        broker.receive("a", Connect("a", will=Publish("w", b"gone")), 0)
        broker.receive("b", Connect("b"), 0)
        subscribe(broker, "b", "w")
        assert [p.payload for _, p in leave(broker)] == expected


def test_an_expired_session_is_forgotten():
    broker = connected("a", clean_start=False, session_expiry_s=10)
    subscribe(broker, "a", "t")
    broker.dropped("a", 0)
    assert broker.wake_at == 10
    broker.tick(10)
    assert broker.receive("a", Connect("a", clean_start=False), 11) == [("a", ConnAck(0, False))]


def test_shared_subscriptions_take_turns_among_the_connected():
    broker = connected("a", "b", "c")
    for member in ("b", "c"):
        subscribe(broker, member, "$share/g/t")
    assert {heard(broker, "a", Publish("t", b""))[0][0] for _ in range(4)} == {"b", "c"}
    broker.dropped("b", 0)
    assert [heard(broker, "a", Publish("t", b""))[0][0] for _ in range(3)] == ["c"] * 3


def test_no_local_and_unsubscribe():
    broker = connected("a")
    subscribe(broker, "a", "t", no_local=True)
    assert heard(broker, "a", Publish("t", b"")) == []
    subscribe(broker, "a", "t")
    assert len(heard(broker, "a", Publish("t", b""))) == 1
    broker.receive("a", Unsubscribe(2, ("t",)), 0)
    assert heard(broker, "a", Publish("t", b"")) == []


def test_receive_maximum_holds_back_until_acknowledged():
    broker = connected("a", "b", receive_max=2)
    subscribe(broker, "b", "t")
    got = [len(heard(broker, "a", Publish("t", b"", 1, packet_id=n))) for n in (1, 2, 3)]
    assert got == [1, 1, 0]
    assert [p.payload for _, p in broker.receive("b", PubAck(1), 0)] == [b""]


def test_filters():
    assert matches("a/#", "a")
    assert matches("a/+/c", "a/b/c")
    assert not matches("#", "$SYS/x")
    assert not matches("a/+", "a/b/c")
    assert not valid_filter("a/#/b")
    assert not valid_filter("a+/b")
    assert covers("state/d/#", "state/d/update")
    assert not covers("state/d/#", "state/+/update")


@given(st.lists(st.sampled_from(["publish", "ack", "drop", "connect"]), max_size=60))
def test_nothing_acknowledged_to_the_publisher_is_lost_or_reordered_while_the_session_lives(moves):
    broker = connected("a")
    session = Connect("b", clean_start=False, session_expiry_s=1e9)
    broker.receive("b", session, 0)
    subscribe(broker, "b", "t")
    sent, first_seen, waiting, up = 0, [], [], True

    def take(outputs):
        for client, packet in outputs:
            if client == "b" and isinstance(packet, Publish):
                waiting.append(packet.packet_id)
                if not packet.dup:
                    first_seen.append(int(packet.payload))

    for move in [*moves, "connect", *["ack"] * 60]:
        if move == "publish":
            take(broker.receive("a", Publish("t", str(sent).encode(), 1, packet_id=1), 0))
            sent += 1
        elif move == "ack" and waiting and up:
            take(broker.receive("b", PubAck(waiting.pop(0)), 0))
        elif move == "drop" and up:
            broker.dropped("b", 0)
            waiting.clear()
            up = False
        elif move == "connect" and not up:
            take(broker.receive("b", session, 0))
            up = True
    assert first_seen == list(range(sent))
