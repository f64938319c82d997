"""The fleet: how many devices, how they are called, how fast they come, and which cohort and profile each has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field, model_validator

from simulator.model import dice
from simulator.model.scenario.units import Block, Ramp, Share


class Cohort(Block):
    """A part of the fleet with a profile of its own: an exact `count`, a `share`, or what the others leave."""

    name: str
    profile: str | None = Field(None, description="absent: the fleet's")
    count: int | None = Field(None, ge=0)
    share: Share | None = None

    @model_validator(mode="after")
    def _one_size(self) -> Cohort:
        if self.count is not None and self.share is not None:
            raise ValueError("give count or share, not both")
        return self


class Fleet(Block):
    """The devices: how many, how they are called, how fast they come."""

    devices: int = Field(100, ge=1, le=100_000_000)
    thing: str = Field("device-%i", description="%i is the index")
    client_id: str = Field("%u", description="%i is the index, %u the thing")
    username: str = Field("%u", description="%u is the thing, %c the client id; for an external broker")
    password: str | None = Field(None, description="for an external broker; %u and %c as in username")
    first_index: int = Field(0, ge=0)
    only: tuple[int, ...] = Field((), description="the only devices that are there, counted from 0; none: all of them")
    ramp: Ramp = Field("200/s", description="devices a second, or all within a time")  # type: ignore[assignment]
    version: str = Field("1.0.0", description="what runs at the start")
    profile: str = "perfect"
    cohorts: tuple[Cohort, ...] = ()

    @model_validator(mode="after")
    def _indexed(self) -> Fleet:
        if self.thing.count("%i") != 1:
            raise ValueError("thing: it must hold %i once, or all devices would share a name")
        if any(c in self.thing for c in "/+#"):
            raise ValueError("thing: it becomes a topic level and may hold none of / + #")
        if "%i" not in self.client_id and "%u" not in self.client_id:
            raise ValueError("client_id: it must hold %i or %u, or devices would take over each other's connection")
        if any(not 0 <= ordinal < self.devices for ordinal in self.only) or len(set(self.only)) < len(self.only):
            raise ValueError(f"only: each once, from 0 to {self.devices - 1}")
        names = [c.name for c in self.cohorts]
        if len(names) != len(set(names)):
            raise ValueError("cohorts: names must differ")
        self.cohort_counts()
        return self

    @property
    def present(self) -> Sequence[int]:
        """The ordinals of the devices that are there. Cohorts, shares and times are those of the whole fleet, so that
        leaving others out changes nothing for these."""
        return sorted(self.only) or range(self.devices)

    def name(self, ordinal: int) -> str:
        """The thing of the device with this ordinal (from 0)."""
        return self.thing.replace("%i", str(self.first_index + ordinal))

    @property
    def stranger(self) -> str:
        """A thing spelled as the devices' are, with the index after the last one's: nobody's."""
        return self.name(self.devices)

    def login(self, thing: str) -> tuple[str, str, str | None]:
        """A thing's (client id, user, password), spelled by the templates; the password is None without one."""
        before, _, after = self.thing.partition("%i")
        index = thing[len(before) : len(thing) - len(after)]
        client_id = self.client_id.replace("%i", index).replace("%u", thing)

        def spell(template: str) -> str:
            return template.replace("%i", index).replace("%c", client_id).replace("%u", thing)

        return client_id, spell(self.username), None if self.password is None else spell(self.password)

    def names(self) -> Iterator[str]:
        """All things, by ordinal."""
        return map(self.name, range(self.devices))

    def cohort_counts(self) -> dict[str, int]:
        """cohort -> exact number of devices. Raises ValueError when they do not add up to `devices`."""
        if not self.cohorts:
            return {"all": self.devices}
        counts: dict[str, int] = {}
        share, shared = 0.0, 0  # shares are rounded as they add up, so that their sum is exact
        for cohort in self.cohorts:
            share += cohort.share or 0.0
            upto = round(share * self.devices)
            counts[cohort.name] = upto - shared if cohort.count is None else cohort.count
            shared = upto
        rest = [c.name for c in self.cohorts if c.count is None and c.share is None]
        left = self.devices - sum(counts.values())
        if left < 0 or len(rest) > 1 or (left > 0 and not rest):
            raise ValueError(
                f"cohorts: they come to {self.devices - left} of {self.devices} devices; "
                "leave count and share out of exactly one cohort to give it the rest"
            )
        if rest:
            counts[rest[0]] = left
        return counts

    def cohort_of(self, seed: int) -> list[str]:
        """The cohort of each ordinal: each cohort takes the lowest hashes of (seed, cohort, ordinal) still free."""
        counts = self.cohort_counts()
        last = next(reversed(counts))
        cohorts = [last] * self.devices
        free: list[int] | range = range(self.devices)
        for name, count in list(counts.items())[:-1]:
            taken = dice.lowest(seed, f"cohort {name}", free, count)
            for ordinal in taken:
                cohorts[ordinal] = name
            free = [o for o in free if o not in taken]
        return cohorts

    def profile_of(self, cohort: str) -> str:
        """The profile's name of a cohort."""
        return next((c.profile for c in self.cohorts if c.name == cohort and c.profile is not None), self.profile)
