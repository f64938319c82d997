"""The broker's core, by packets alone."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

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


def test_what_is_sent_again_keeps_to_the_receive_maximum_and_comes_before_the_rest():
    broker = connected("a")
    kept = Connect("b", clean_start=False, session_expiry_s=60)
    broker.receive("b", replace(kept, receive_max=4), 0)
    subscribe(broker, "b", "t")
    for n in range(6):
        broker.receive("a", Publish("t", b"%d" % n, 1, packet_id=1), 0)
    for conn in ("b2", "b3"):  # taken over, and before everything was sent again, once more
        out = broker.receive(conn, replace(kept, receive_max=2), 0)
        assert [(p.payload, p.packet_id, p.dup) for _, p in out if isinstance(p, Publish)] == [
            (b"0", 1, True), (b"1", 2, True)]  # fmt: skip
    got = []
    for n in range(1, 7):
        got += [(p.payload, p.dup) for _, p in broker.receive("b3", PubAck(n), 0)]
    assert got == [(b"2", True), (b"3", True), (b"4", False), (b"5", False)]


def test_whoever_takes_an_id_as_another_user_does_not_get_the_session():
    broker = Broker()
    broker.receive("a", Connect("a"), 0)
    broker.receive("b", Connect("id", "thing-1", clean_start=False, session_expiry_s=60), 0)
    subscribe(broker, "b", "t")
    broker.dropped("b", 0)
    broker.receive("a", Publish("t", b"secret", 1, packet_id=1), 0)
    thief = Connect("id", "thing-2", clean_start=False, session_expiry_s=60)
    assert broker.receive("c", thief, 0) == [("c", ConnAck(0, False))]
    assert heard(broker, "a", Publish("t", b"secret", 1, packet_id=1)) == []


def test_a_restart_forgets_everything():
    broker = connected("a", "b", clean_start=False, session_expiry_s=60)
    subscribe(broker, "a", "t")
    subscribe(broker, "a", "$share/g/t")
    broker.receive("b", Publish("t", b"", retain=True), 0)
    broker.dropped("a", 0)
    assert broker.restart() == ["b"]
    assert broker.wake_at is None
    assert broker.receive("a", Connect("a", clean_start=False), 0) == [("a", ConnAck(0, False))]
    assert subscribe(broker, "a", "t") == []


def test_filters():
    assert matches("a/#", "a")
    assert matches("a/+/c", "a/b/c")
    assert not matches("#", "$SYS/x")
    assert not matches("a/+", "a/b/c")
    assert not valid_filter("a/#/b")
    assert not valid_filter("a+/b")
    assert covers("state/d/#", "state/d/update")
    assert not covers("state/d/#", "state/+/update")


class Walk:
    """A sender, and a receiver of a kept session whose connections come and go."""

    def __init__(self):
        self.broker = connected("a")
        self.now = self.gone = self.conn = self.sent = 0
        self.up, self.window = False, 65535
        self.first_seen, self.waiting = [], []

    def connect(self, window):
        """A connection of its own: the one before was cut, or is taken over."""
        lives = self.conn > 0 and (self.up or self.now < self.gone + 10)
        self.conn, self.up, self.window, self.waiting = self.conn + 1, True, window, []
        out = self.broker.receive(self.conn, Connect("b", None, None, False, 10, receive_max=window), self.now)
        assert (self.conn, ConnAck(0, lives)) in out
        if not lives:
            self.broker.receive(self.conn, Subscribe(1, (Filter("t"),)), self.now)
            self.sent, self.first_seen = 0, []
        self.take(out)

    def cut(self):
        if self.up:
            self.broker.dropped(self.conn, self.now)
            self.up, self.gone = False, self.now

    def publish(self):
        packet = Publish("t", str(self.sent).encode(), 1, packet_id=1)
        self.sent += 1
        self.take(self.broker.receive("a", packet, self.now))

    def ack(self):
        if self.up and self.waiting:
            self.take(self.broker.receive(self.conn, PubAck(self.waiting.pop(0)), self.now))

    def wait(self):
        self.now += 4
        self.broker.tick(self.now)

    def take(self, outputs):
        for client, packet in outputs:
            if client == "a" or not isinstance(packet, Publish):
                continue
            assert (self.up, client) == (True, self.conn)  # never the one that was taken over
            assert packet.packet_id not in self.waiting
            self.waiting.append(packet.packet_id)
            assert len(self.waiting) <= self.window
            if not packet.dup:
                self.first_seen.append(int(packet.payload))


@given(st.lists(st.sampled_from(["publish", "ack", "cut", 1, 2, 65535, "wait"]), max_size=80))
def test_nothing_acknowledged_to_the_publisher_is_lost_or_reordered_while_the_session_lives(moves):
    """A connection may be cut, or taken over with another receive maximum, while messages are on their way."""
    walk = Walk()
    walk.connect(65535)
    for move in [*moves, 65535, *["ack"] * 90]:
        if isinstance(move, int):
            walk.connect(move)
        else:
            getattr(walk, move)()
    assert walk.first_seen == list(range(walk.sent))
