"""Whether the operator's templates can be read, and render every kind of message; what they see."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from tocsin_alerting.notify.message_templates import MessageTemplates
from tocsin_alerting.notify.own_templates import (
    BODIES,
    LANGUAGES,
    OwnTemplates,
    TemplateProblem,
)
from tocsin_alerting.notify.template_samples import samples
from tocsin_alerting.notify.webhook.body import webhook_body

VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "kind": "how it stands: firing, acked, unknown, resolved, missed (fired and resolved),"
        " given_up, unwatched, closed_firing, closed_unknown, silence_ends, digest, test",
        "severity": "P0 to P4",
        "reason": "why this message goes out: opened, escalated, repeat, acked, resolved, ...",
        "head": "how it stands, in a sentence; while it fires and nobody is on it, what fires",
        "what": "the summary of the worst alert",
        "short": "the same, short enough for a subject",
        "title": "the alert's name and what it is grouped by",
        "machine": "the host that it is about",
        "machine_named": "whether `short` names the machine already",
        "model": "the model, where one is known",
        "model_named": "whether `short` names the model already",
        "engine": "host and port of the inference engine",
        "gpu": "number and model of the GPU",
        "incident": "the number of the incident; 0 where it is about none or many",
        "numbers": "#42, or the first of many; empty in a test",
        "value": "the value of the worst alert, with its unit",
        "limit": "what its rule compares it with: > 95%",
        "numbers_then": "pairs of a name and a number, from when it fired;"
        " w.evidence has words for the names",
        "fired_clock": "when the worst alert fired, by the clock",
        "since": "when the condition began to hold: day, clock, zone, and UTC",
        "until": "when it ended, or when this message was decided",
        "lasted": "for how long, until then",
        "age": "for how long, until this message is sent",
        "fired": "when the incident opened, by the clock",
        "ended": "when this message was decided, by the clock",
        "times": "how often it has fired within 24 h; 0 for once, and when it is over",
        "answerable": "whether somebody has to acknowledge it",
        "owned": "whether it fires and is acknowledged",
        "colour": "the colour of how it stands: #b00020",
        "actor": "who acknowledged or closed it",
        "note": "what he wrote, or what is to be said besides",
        "others": "who else is notified",
        "unanswered": "pairs of who did not answer, and when he was notified",
        "next_to": "who is notified next",
        "next_at": "when: day, clock, zone, and UTC",
        "next_clock": "when, by the clock",
        "alerts": "the alerts, each with summary, description, value, since, lasted, labels, name,"
        " resolved, runbook, dashboard",
        "others_firing": "how many there are besides the first",
        "more": "how many are not among `alerts`",
        "rows": "of a storm, pairs of a label and what is counted",
        "items": "of a digest, a line for each incident",
        "answer_url": "where the addressee answers; empty without such links",
        "link": "the address of the agent",
        "host": "the name of the machine on which the agent runs",
        "alertctl": "how alertctl is called there",
        "drill": "whether nothing is wrong and this is a drill",
        "not_recorded": "whether the journal could not be written",
        "chart": "the Content-ID of the chart that a mail brings along; empty for none",
        "chart_from": "when the chart begins, by the clock",
        "chart_until": "when it ends",
        "lowest": "the lowest value in it",
        "highest": "the highest value in it",
        "message": "of a webhook's body alone: what is sent without a template",
        "language": "en or zh",
        "w": "the words of the language: w.label, w.tags, w.why, w.reasons, w.severities,"
        " w.evidence, w.nth(3)",
    }
)
"""What a template sees, and what it is."""


def template_problems(
    own: OwnTemplates, make: Callable[[str], MessageTemplates]
) -> Iterator[TemplateProblem]:
    """What cannot be read, then of each file and language the first message that fails. `make`
    gives the texts of a language."""
    yield from own.problems
    told = set[TemplateProblem]()
    for language in LANGUAGES:
        templates = make(language)
        for name in templates.own.files if templates.own else ():
            problem = _first_problem(templates, name)
            if problem is not None and problem not in told:
                told.add(problem)
                yield problem


def _first_problem(templates: MessageTemplates, name: str) -> TemplateProblem | None:
    assert templates.own is not None
    for message in samples():
        shown = templates.context(message, message.at_ms)
        shown = {**shown, "message": webhook_body(message)} if name.endswith(BODIES) else shown
        result = templates.own.attempt(name, shown)
        if isinstance(result, TemplateProblem):
            return result
    return None
