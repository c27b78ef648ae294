"""`p2pbin explain`: why a package is offered on this machine or not."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from portage_p2pbin.cli.levels import named, voters, voters_json
from portage_p2pbin.cli.output import Output, standard_output
from portage_p2pbin.cli.site import Site, now
from portage_p2pbin.explain import Apart, Explainer, Explanation, Listed
from portage_p2pbin.gentoo.atoms import category, in_repositories, matching
from portage_p2pbin.gentoo.record import Record, find_record, recorded
from portage_p2pbin.gentoo.settings import read_settings
from portage_p2pbin.kernel.difference import Difference
from portage_p2pbin.kernel.errors import ExitCode, UnavailableError, printable
from portage_p2pbin.kernel.trust import Electorate
from portage_p2pbin.net.trust_server import SaidBuild
from portage_p2pbin.refusals import Refusals

MOST_DIFFERENCES = 20
"""Lines of differences that are shown; --json has all."""


def run(arguments: argparse.Namespace) -> ExitCode:
    """Explain each version that the atom means and that somebody knows something of."""
    site = Site.named(arguments.repository)
    found = _explain(site, arguments.atom)
    if not found:
        raise UnavailableError(arguments.atom, "nobody has built or voted on it, and no ebuild repository here has it")
    output = standard_output()
    if arguments.json:
        output.json({"packages": [_as_json(one) for one in found]})
    else:
        for one in found:
            _show(one, output)
    return ExitCode.DONE


def _explain(site: Site, atom: str) -> list[Explanation]:
    paths = site.config.paths
    settings = read_settings(paths.eprefix, os.environ)
    builds = {record.definition.request.cpv: record for record in _records(site)}
    with site.trust_server() as server, site.verified(server) as repository:
        electorate = Electorate(repository.roster(), repository.rulings(), now())
        refusals = Refusals(paths.refused).read(now())
        explainer = Explainer(server, site.repository.channel, repository, electorate, settings.thresholds, refusals)
        entries = explainer.entries(category(atom))
        known = dict.fromkeys([*matching(atom, [one.cpv for one in entries]), *matching(atom, builds), *in_repositories(atom)])
        found = [explainer.explain(cpv, entries, builds[cpv].definition if cpv in builds else None) for cpv in known]
    return [one for one in found if one.listed or one.said or one.built_here or len(found) == 1]


def _records(site: Site) -> list[Record]:
    eprefix = site.config.paths.eprefix
    return [find_record(eprefix, file) for file in recorded(eprefix)]


def _show(found: Explanation, output: Output) -> None:
    output.step(found.cpv)
    for listed in found.listed:
        _show_listed(listed, output)
    if not found.listed:
        output.warning("not offered: the verified index does not list it")
    if found.silence:
        output.warning(f"The server says nothing: {printable(found.silence)}")
    for build in found.said:
        _show_said(build, found, output)


def _show_listed(listed: Listed, output: Output) -> None:
    """What this machine has verified itself."""
    objection = listed.objection
    if objection:
        output.warning(f"not offered: {printable(objection)}")
    else:
        output.good(f"offered: {named(listed.entry.level)}, and your threshold for it is {listed.threshold:d}")
    fields: dict[str, str] = {"build key": listed.entry.build_key, "contents": listed.entry.contents}
    if listed.judgement is not None:
        fields["votes that count"] = voters(listed.judgement.voices)
        if listed.judgement.set_aside:
            fields["votes set aside"] = "; ".join(sorted({one.reason for one in listed.judgement.set_aside}))
    output.fields(fields)
    if listed.apart is not None:
        _show_apart(listed.apart, output)


def _show_apart(apart: Apart, output: Output) -> None:
    if not apart.request and not apart.environment:
        output.text("    This machine has built the same with the same.")
    if apart.request:
        output.text("    This machine has built something else, so its vote counts elsewhere:")
        _show_differences(apart.request, output)
    if apart.environment:
        output.text("    While this machine built it, other packages were installed:")
        _show_differences(apart.environment, output)


def _show_differences(differences: tuple[Difference, ...], output: Output) -> None:
    for one in differences[:MOST_DIFFERENCES]:
        output.text(f"        {printable(one.field)}: here {printable(one.here) or '-'}; there {printable(one.there) or '-'}")
    if len(differences) > MOST_DIFFERENCES:
        output.text(f"        and {len(differences) - MOST_DIFFERENCES} more; --json has all")


def _show_said(build: SaidBuild, found: Explanation, output: Output) -> None:
    """What the server says, which proves nothing."""
    ours = found.built_here is not None and found.built_here.request.key == build.build_key
    output.good(f"The server says of build {build.build_key[:16]}…{' (as built here)' if ours else ''}: {named(build.level)}")
    output.text(f"    asked for {build.requests} times")
    for variant in build.variants:
        listed = "listed" if variant.listed else "not listed"
        contents = variant.contents or "a result that is not public yet"
        output.text(f"    {contents}: {named(variant.level)}, {listed}; {voters(variant.voices)}")


def _as_json(found: Explanation) -> Mapping[str, object]:
    built = found.built_here
    return {
        "cpv": found.cpv,
        "builtHere": None if built is None else {"buildKey": built.request.key, "definition": built.digest},
        "listed": [_listed_json(one) for one in found.listed],
        "server": {"silence": found.silence, "builds": [_said_json(one) for one in found.said]},
    }


def _listed_json(listed: Listed) -> Mapping[str, object]:
    judgement, apart = listed.judgement, listed.apart
    return {
        **listed.entry.as_json(),
        "threshold": int(listed.threshold),
        "offered": not listed.objection,
        "objection": listed.objection,
        "judged": None if judgement is None else {"level": judgement.level, "voices": voters_json(judgement.voices)},
        "setAside": [] if judgement is None else [one.reason for one in judgement.set_aside],
        "apart": None if apart is None else {"request": _apart_json(apart.request), "environment": _apart_json(apart.environment)},
    }


def _said_json(build: SaidBuild) -> Mapping[str, object]:
    variants = [
        {
            "contents": one.contents, "level": one.level, "listed": one.listed, "definition": one.definition,
            "voices": voters_json(one.voices),
        }
        for one in build.variants
    ]  # fmt: skip
    return {"buildKey": build.build_key, "level": build.level, "requests": build.requests, "variants": variants}


def _apart_json(differences: tuple[Difference, ...]) -> list[Mapping[str, object]]:
    return [{"field": one.field, "here": one.here, "there": one.there} for one in differences]
