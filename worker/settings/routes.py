"""What a job type's ``sender`` and ``routes`` must say, and what of it can never be of use. Pure."""

from collections.abc import Iterable, Iterator, Sequence, Set

from worker.settings.model import Config, JobType, Route
from worker.settings.problems import Problem, choose, show
from worker.settings.quantities import Hours

DAY_MIN = 1440
# developers.telnyx.com, "Alphanumeric sender ID": never to the US, Canada or Puerto Rico.
NO_ALPHANUMERIC = frozenset({"US", "CA", "PR"})


def check_routes(path: str, job_type: JobType, config: Config, senders: Set[str]) -> Iterator[Problem]:
    """``senders``: those that the file declares, also where their own table has a mistake."""
    if not job_type.candidates:
        yield Problem(f"{path}.sender", "is missing", 'write sender = "alerts", or routes')
    if job_type.given_sender is not None and job_type.given_sender not in senders:
        yield _unknown(f"{path}.sender", job_type.given_sender, senders)
    for index, route in enumerate(job_type.routes):
        where = f"{path}.routes[{index}]"
        for name in route.senders:
            if name not in senders:
                yield _unknown(f"{where}.senders", name, senders)
        if not any(weight is None or weight for weight in route.senders.values()):
            remedy = "give one of them a weight above 0, or take the route out"
            yield Problem(f"{where}.senders", "lets nobody in: all weights are 0", remedy, show(dict(route.senders)))
        if route.timezone is not None and route.hours is None:
            yield Problem(f"{where}.timezone", "stands without hours", 'add hours = "08:00-20:00", or take it out')
    if job_type.sticky and not job_type.routes:
        remedy = "take it out: with one sender a person always hears from the same number"
        yield Problem(f"{path}.sticky", "stands without routes", remedy, "true")
    yield from _one_kind(path, job_type, config)


def _unknown(path: str, name: str, senders: Set[str]) -> Problem:
    return Problem(path, "names no sender", choose(name, senders, otherwise=f"add [senders.{name}]"), show(name))


def _one_kind(path: str, job_type: JobType, config: Config) -> Iterator[Problem]:
    """The content is made before the sender is chosen, and apps are told what a job type takes: so all take the same."""
    known = [name for name in job_type.candidates if name in config.senders]
    for name in known[1:]:
        first, other = config.senders[known[0]].channel, config.senders[name].channel
        for kind in ("whatsapp", "group_mms"):
            if (first == kind) != (other == kind):
                what = f"has {known[0]} ({first}) beside {name} ({other}), which take different messages"
                yield Problem(f"{path}.routes", what, "make a job type of each, or use fallback")
                return


def warn_of_routes(path: str, job_type: JobType, config: Config) -> Iterator[str]:
    """What is allowed, and lets somebody down or helps nobody."""
    routes = job_type.routes
    for index, route in enumerate(routes):
        where = f"{path}.routes[{index}]"
        before = _shadowed_by(route, routes[:index])
        if before is not None:
            yield f"{where} is never used: routes[{before}] has the same senders for all of its recipients; take it out"
        yield from _senders_of_no_use(where, route, job_type, config)
    if job_type.sticky and all(len(route.senders) == 1 for route in routes):
        yield f"{path}.sticky changes nothing: each route has one sender; name several in one"
    if routes and job_type.given_sender is None:
        yield from _gaps(path, routes, _named_countries(config))


def _shadowed_by(route: Route, earlier: Iterable[Route]) -> int | None:
    """The earlier route that takes all that this one could, over senders that are no worse off."""
    for index, other in enumerate(earlier):
        covers = other.countries is None or (
            route.countries is not None and set(route.countries) <= set(other.countries)
        )
        same_time = other.hours is None or (other.hours, other.timezone) == (route.hours, route.timezone)
        if covers and same_time and set(route.senders) <= set(other.senders):
            return index
    return None


def _senders_of_no_use(where: str, route: Route, job_type: JobType, config: Config) -> Iterator[str]:
    for name, weight in route.senders.items():
        if weight == 0 and not job_type.sticky:
            yield f"{where}.senders.{name} has weight 0 and takes nobody: give it a weight, or take it out"
        blocked = route.countries is not None and set(route.countries) <= NO_ALPHANUMERIC
        if blocked and config.senders[name].is_alphanumeric:
            yield f"{where} names {name}, an alphanumeric sender, which reaches none of its countries: name a number"


def _named_countries(config: Config) -> set[str]:
    return {
        country
        for job_type in config.job_types.values()
        for route in job_type.routes
        for country in route.countries or ()
    }


def _gaps(path: str, routes: Sequence[Route], named: Set[str]) -> Iterator[str]:
    """Whom no route takes, or not at every hour, where the job type has no ``sender`` for them."""
    elsewhere = [route for route in routes if route.countries is None]
    if _all_day(elsewhere):
        return
    here = {country for route in routes for country in route.countries or ()}
    for country in sorted(here):
        if not _all_day([route for route in routes if route.countries is None or country in route.countries]):
            yield f"{path}.routes leave hours in which nobody takes {country}: it ends rejected (no_route) then; add a sender"
    if elsewhere:
        yield f"{path}.routes leave hours in which nobody is taken: who comes then ends rejected (no_route); add a sender"
        return
    for country in sorted(named - here):
        yield f"{path}.routes have none for {country}, which other routes name: it ends rejected (no_route); add one"
    yield f"{path} has no sender for other countries: they end rejected (no_route); add one, unless that is meant"


def _all_day(routes: Iterable[Route]) -> bool:
    by_zone: dict[str | None, set[int]] = {}
    for route in routes:
        if route.hours is None:
            return True
        by_zone.setdefault(route.timezone, set()).update(_minutes(route.hours))
    return any(len(minutes) == DAY_MIN for minutes in by_zone.values())


def _minutes(window: Hours) -> set[int]:
    if window.start_min < window.end_min:
        return set(range(window.start_min, window.end_min))
    return {*range(window.start_min, DAY_MIN), *range(window.end_min)}
