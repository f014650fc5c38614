"""A page as a file: one of its own, harmless whatever it is about, bounded, the same each time."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from page_evidence import NAMES, costs, page_evidence

import bioconvert as bc
from bioconvert.checkpoint import import_torchvision
from bioconvert.report.diagram import dot, mermaid
from bioconvert.report.html.evidence import Drifted, Evidence, Weights
from bioconvert.report.html.moved import Moved
from bioconvert.report.html.rendering import embedded, render_page
from bioconvert.report.html.structure import structure_of
from bioconvert.report.tree import TensorLine
from bioconvert.surgery.costs import CostChange, planned_costs

MEBIBYTE = 1 << 20
VOID = {"meta", "br"}


class Outline(HTMLParser):
    """The elements of a page, checked to be nested as they must."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.texts, self.json = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.json += data
        else:
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


PAGES = [
    pytest.param(page_evidence("net"), id="everything"),
    pytest.param(
        Evidence("plain", "plain", CostChange(costs(("", "Net", 3)), costs(("", "Net", 3)))), id="plain"
    ),
    pytest.param(Evidence("plan", "planned", CostChange(costs(("", "Net", 3)), None)), id="unknown after"),
    pytest.param(
        Evidence("empty", "converted", CostChange(costs(("", "", 0)), costs(("", "", 0)))),
        id="nothing at all",
    ),
    *(pytest.param(page_evidence(name), id=f"hostile {number}") for number, name in enumerate(NAMES)),
]


@pytest.mark.parametrize("evidence", PAGES)
class TestEveryPage:
    def test_is_well_formed(self, evidence):
        """Elements are closed in order, ids are unique, and every link leads to one of them."""
        page = Outline(render_page(evidence))
        assert page.open == []
        ids = [attributes["id"] for _, attributes in page.seen if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert {attributes["href"].removeprefix("#") for attributes in page.all("a")} <= set(ids)

    def test_loads_nothing(self, evidence):
        """There is no address in it, no element that would fetch one, and a policy that forbids both."""
        text = render_page(evidence)
        page = Outline(text)
        assert re.search(r"https?:|//[a-z]|url\(|@import", text) is None
        assert not {tag for tag, _ in page.seen} & {
            "link",
            "img",
            "iframe",
            "object",
            "embed",
            "audio",
            "video",
        }
        assert not any("src" in attributes for _, attributes in page.seen)
        assert any("default-src 'none'" in attributes.get("content", "") for attributes in page.all("meta"))

    def test_runs_nothing(self, evidence):
        """Its only script is data, and no element has a handler of events."""
        page = Outline(render_page(evidence))
        assert [attributes["type"] for attributes in page.all("script")] == ["application/json"]
        assert not any(name.startswith("on") for _, attributes in page.seen for name in attributes)

    def test_holds_the_same_numbers_as_json(self, evidence):
        """The JSON can be read and has the page's name and sizes."""
        numbers = json.loads(Outline(render_page(evidence)).json)
        assert numbers["kind"] == evidence.kind
        assert numbers["sizes"]["parameters"][0] == evidence.costs.before.parameters

    def test_has_no_control_characters(self, evidence):
        """ESC and its like are spelled out, in the text and in the JSON."""
        assert re.search(r"[\x00-\x09\x0b-\x1f\x7f\u2028\u2029]", render_page(evidence)) is None

    def test_can_be_read_aloud(self, evidence):
        """Tables have captions, pictures labels, sections headings, and the page a language and one title."""
        page = Outline(render_page(evidence))
        assert page.all("html") == [{"lang": "en"}]
        assert len(page.all("h1")) == 1
        assert len(page.all("caption")) == len(page.all("table"))
        assert all("aria-label" in each or "aria-hidden" in each for each in page.all("svg"))
        assert all("aria-labelledby" in each for each in page.all("section"))

    def test_is_the_same_each_time(self, evidence):
        """The same evidence gives the same text."""
        assert render_page(evidence) == render_page(evidence)


def test_page_has_every_section():
    """Where there is evidence for all of them, all sections are there."""
    ids = {each["id"] for each in Outline(render_page(page_evidence("net"))).all("section")}
    assert ids == {"structure", "rules", "sizes", "weights", "drift", "plasticity", "growth", "facts", "use"}


def test_templates_in_names_are_not_run():
    """A name that looks like a template is shown as it is."""
    assert "{{ 7 * 7 }}" in "".join(Outline(render_page(page_evidence("{{ 7 * 7 }}"))).texts)


def test_embedded_json_ends_no_script():
    """What could end a script element is escaped, and reads back as it was; NaN becomes null."""
    text = embedded({"</script>": ["<!--", "\u2028", float("nan")]})
    assert re.search(r"[<>&\u2028]", text) is None
    assert json.loads(text) == {"</script>": ["<!--", "\u2028", None]}


@pytest.fixture(scope="module")
def resnet50():
    """A page about a ResNet-50, planned on the meta device, with weights and histories made up."""
    import_torchvision()
    from torchvision.models import resnet50

    with torch.device("meta"):
        model = resnet50()
    plan = bc.plan(model, ["yat", "dynamic", "plastic"])
    drawn = np.random.default_rng(0).normal(size=4096)
    paths = [name for name, module in model.named_modules() if hasattr(module, "weight")]
    evidence = Evidence(
        "resnet50",
        "converted",
        planned_costs(plan),
        outcomes=plan,
        tensors=tuple(TensorLine(n, "F32", tuple(t.shape)) for n, t in model.state_dict().items()),
        weights=tuple(Weights(path, "weight", 4096, drawn, drawn * 1.5) for path in paths),
        drift=Drifted(tuple(Moved(p, 0.1, 0.1, 0.9) for p in paths), Moved("", 0.1, 0.1, 0.9), "random"),
        history=tuple(
            {"step": s, "parameter": f"{p}.weight", "numbers": {f"number {n}": s * n / 7 for n in range(9)}}
            for s in range(0, 1000, 10)
            for p in paths
        ),
    )
    return render_page(evidence)


def test_page_of_a_resnet50_is_below_a_mebibyte(resnet50):
    """With every section at its fullest, the page is smaller than 1 MiB."""
    assert MEBIBYTE // 8 < len(resnet50.encode()) <= MEBIBYTE


def test_page_of_a_resnet50_folds_repeats(resnet50):
    """The blocks of a stage that are alike are one branch of the tree."""
    tree = resnet50[resnet50.index('id="structure"') : resnet50.index('id="rules"')]
    assert tree.count("Bottleneck") == 8
    assert tree.count("{1..5}</span> <span") == 1


def _diagrams(name):
    structure = structure_of(page_evidence(name).costs, ())
    return mermaid(structure), dot(structure)


@pytest.mark.parametrize("name", NAMES)
def test_diagrams_hold_any_name(name):
    """Mermaid and DOT have one line for each module and each edge, whatever the name."""
    flow, graph = _diagrams(name)
    assert len(re.findall(r'^  m\d+\["[^"<>]*"\](?::::\w+)?$', flow, re.M)) == flow.count(
        "\n  m"
    ) - flow.count("-->")
    assert len(
        re.findall(r'^  m\d+ \[label="(?:[^"\\]|\\.)*"(?:, fillcolor="#\w+")?\];$', graph, re.M)
    ) == 3 + (name.count(".") > 0)


def test_diagrams_mark_what_changed():
    """A converted layer has both classes and a colour of its own."""
    flow, graph = _diagrams("layer")
    assert 'm1["layer — Conv2d → YatConv2d — 12 parameters"]:::changed' in flow
    assert 'm1 [label="layer\\nConv2d → YatConv2d\\n12 parameters", fillcolor="#cdebdc"];' in graph
    assert "m0 --> m1" in flow
    assert "m0 -> m1;" in graph
