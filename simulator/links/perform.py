"""What a dialect wants sent is sent here, for all three who speak one: devices, the application and the replica. An
output that no link of theirs carries is refused by name; passed over in silence, it would look as if it had been said."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from simulator.links.base import HttpLink, MqttLink
from simulator.model.errors import NotSimulated
from simulator.model.io import Output, Publish, Request, Response, Step, Subscribe


async def perform(
    outputs: Iterable[Output],
    mqtt: MqttLink | None,
    http: HttpLink | None = None,
    answered: Callable[[Response], Step] | None = None,
) -> None:
    """Send outputs, in order. `answered` is given the response to each request, which names that request, and says what
    is to be sent upon it, before the next output. Raises LinkError when the road fails, PeerError when a subscription is
    refused, NotSimulated for an output that cannot be sent: a message without `mqtt`, a request without `http`."""
    for output in outputs:
        if isinstance(output, Publish) and mqtt is not None:
            await mqtt.publish(output.topic, output.payload, qos=output.qos, retain=output.retain)
        elif isinstance(output, Subscribe) and mqtt is not None:
            await mqtt.subscribe(output.filters, qos=output.qos, no_local=output.no_local)
        elif isinstance(output, Request) and http is not None and answered is not None:
            response = replace(await http.request(output), request=output)
            await perform(answered(response).outputs, mqtt, http, answered)
        else:
            raise NotSimulated(
                f"{type(output).__name__} is what a dialect wants sent, and there is no link for it here"
            )
