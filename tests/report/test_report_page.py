"""The page: whole, alone, honest about how the run ended, and deaf to markup in a run's files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import hardgrad as hg
from hardgrad.core import UsageError, dumps
from hardgrad.report import Table, write_report
from hardgrad.training import EpochRecord, RunFolder

SECTIONS = ["Key figures", "Curves", "Schedules", "Epochs", "Settings", "Run it again"]
VOID = {"meta", "img", "br", "link", "input", "hr"}
PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
    """A page taken apart: it fails where an element is not closed."""

    def __init__(self, path: Path):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]

    @property
    def badge(self) -> str:
        return self.of("span")[0]

    @property
    def text(self) -> str:
        return " ".join(text for where, text in self.texts if where != "style")


def picture(label: str = "") -> Figure:
    figure = Figure((4, 2))
    figure.subplots().plot([0, 1], [1, 0])
    figure.set_label(label)
    return figure


def test_the_report_of_a_finished_run(run: RunFolder) -> None:
    table = Table("By horizon", ["horizon", "mae"], [[1, 0.25], [8, float("nan")]], note="Over 3 seeds.")
    path = write_report(
        run,
        title="tiny-quadratic",
        description="First paragraph.\n\nSecond one.",
        figures={"Futures": picture("Two futures."), "Loss": picture()},
        tables=[table],
    )
    assert path == run.path / "report.html"
    page = Page(path)
    assert page.of("h1") == ["tiny-quadratic"] == page.of("title")
    assert page.badge == "completed"
    assert {"First paragraph.", "Second one."} <= set(page.of("p"))
    assert page.of("h2") == [*SECTIONS[:3], "Pictures", *SECTIONS[3:]]
    assert page.of("a") == page.of("h2")
    for text in ("all 12 epochs done.", "By horizon", "Over 3 seeds.", "Two futures.", "LinearDepth(start=1"):
        assert text in page.text
    assert "hardgrad run tiny-quadratic --config" in page.text
    assert "hardgrad resume" not in page.text
    assert "model.width" in page.text
    assert "weight" in page.text
    assert "1 step changed nothing" in page.text

    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 6
    assert all(image["alt"] and image["src"].startswith("data:image/png;base64,") for image in images)
    files = sorted(file.name for file in (run.path / "figures").iterdir())
    assert files == ["futures.png", "gradient.png", "loss-2.png", "loss.png", "schedules.png", "terms.png"]
    assert all((run.path / "figures" / name).read_bytes().startswith(PNG) for name in files)


def test_nothing_is_fetched_and_nothing_runs(run: RunFolder) -> None:
    page = Page(write_report(run, title="x"))
    assert not re.search(r"https?://|//cdn|@import|url\(|javascript:", page.source)
    assert not {"script", "link", "iframe", "object", "form", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_the_same_run_gives_the_same_page(run: RunFolder) -> None:
    first = write_report(run, title="x").read_bytes()
    assert write_report(run, title="x").read_bytes() == first


def test_every_key_figure_is_there(run: RunFolder) -> None:
    page = Page(write_report(run, title="x"))
    names = ["final loss", "final val_loss", "best val_mae", "epochs", "steps", "skipped steps"]
    assert page.of("dt") == [*names, "objective evaluations", "time training"]
    values = dict(zip(page.of("dt"), page.of("dd"), strict=True))
    result = json.loads(run.result_path.read_text())
    assert values["best val_mae"].endswith(f"in epoch {result['best']['epoch']}")
    assert (values["epochs"], values["steps"], values["skipped steps"]) == ("12", "24", "1")


def test_what_the_recipe_concludes_comes_first(run: RunFolder) -> None:
    said = {"headline": "0.9 of 1", "lines": ["", "a   1", "b " + "long " * 40], "notes": ["Only 2 seeds."]}
    run.write_json(run.result_path, {**json.loads(run.result_path.read_text()), **said})
    page = Page(write_report(run, title="x"))
    assert page.of("h2") == ["Conclusion", *SECTIONS]
    first, second = page.source.split("</section>")[:2]
    for text in ("0.9 of 1.", "a   1\nb long", "Only 2 seeds."):
        assert text in first
        assert text not in second
    assert "1 step changed nothing" in second  # that is about the run
    printed = next(attributes for tag, attributes in page.elements if tag == "pre")
    assert printed["tabindex"] == "0"  # can be scrolled by keys where lines are not wrapped


@pytest.mark.parametrize(("names", "folded"), [(12, False), (13, True)])
def test_many_metrics_are_folded_away(tmp_path: Path, names: int, folded: bool) -> None:
    (tmp_path / "config.json").write_text("{}")
    record = EpochRecord(0, 1, {}, {f"m{n}": 1.0 for n in range(names)})
    (tmp_path / "telemetry.jsonl").write_text(dumps({"kind": "epoch_end", **record.as_json()}) + "\n")
    page = Page(write_report(RunFolder(tmp_path), title="x"))
    section = page.source[page.source.index('id="key-figures"') : page.source.index('id="curves"')]
    assert ("<details" in section) == folded
    assert (f"<h3>All {names} metrics</h3>" in section) == folded
    assert f">m{names - 1}<" in section


def test_a_run_that_goes_on_has_a_report_already(run: RunFolder) -> None:
    run.result_path.unlink()
    kept = run.telemetry_path.read_text().splitlines(keepends=True)[:-3]
    run.telemetry_path.write_text("".join(kept) + '{"torn')
    page = Page(write_report(run, title="x"))
    assert page.badge == "still running"
    assert "11 of 12 epochs done when this report was written" in page.text
    assert "hardgrad resume" in page.text
    assert "objective evaluations" not in page.text
    assert page.of("h2") == SECTIONS


def test_a_run_resumed_after_its_result_goes_on(run: RunFolder) -> None:
    with open(run.telemetry_path, "a") as file:
        file.write('{"kind": "epoch_begin", "epoch": 12, "time": 1.0, "controls": {}}\n')
    assert Page(write_report(run, title="x")).badge == "still running"


def test_a_run_that_an_exception_ended_says_which(run: RunFolder) -> None:
    run.result_path.unlink()
    with open(run.telemetry_path, "a") as file:
        error = {"kind": "error", "epoch": 3, "type": "OSError", "message": "<b>disk</b> gone", "time": 1.0}
        file.write(dumps(error) + "\n")
    page = Page(write_report(run, title="x"))
    assert page.badge == "failed"
    assert "OSError in epoch 3: <b>disk</b> gone." in page.text


def test_a_run_that_early_stopping_ended_gives_the_reason(train: Callable[..., Path]) -> None:
    run = train(callbacks=[hg.EarlyStopping("val_mae", "max", patience=1)])
    page = Page(write_report(RunFolder(run), title="x"))
    assert page.badge == "stopped"
    assert "val_mae has not improved for 2 epochs." in page.text
    assert "3 of 12" in page.of("dd")


@pytest.mark.parametrize(("status", "kind"), [("diverged", "bad"), ("interrupted", "warn")])
def test_a_run_that_ended_badly_shows_it(run: RunFolder, status: str, kind: str) -> None:
    result = json.loads(run.result_path.read_text())
    run.write_json(run.result_path, {**result, "status": status, "reason": "because of x"})
    page = Page(write_report(run, title="x"))
    assert page.badge == status
    assert ("span", {"class": f"badge {kind}"}) in page.elements
    assert "because of x." in page.text
    assert "hardgrad resume" in page.text


def test_a_run_without_an_epoch_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"epochs": 5}')
    page = Page(write_report(RunFolder(tmp_path), title="x"))
    assert page.of("h2") == SECTIONS
    assert "0 of 5 epochs done" in page.text
    assert "no epoch has been finished" in page.text


def test_no_text_of_a_file_becomes_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y>\ud800\x00"
    folder = RunFolder(tmp_path)
    config = {"settings": {"recipe": evil, evil: {evil: evil}}, "method": evil, "plan": {evil: evil}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    controls = [{evil: n, f"{evil}2": evil} for n in range(2)]
    records = [EpochRecord(n, n, controls[n], {"loss": 1.0, evil: 1.0}) for n in range(2)]
    lines = [json.dumps({"kind": "epoch_end", **record.as_json()}) for record in records]
    (tmp_path / "telemetry.jsonl").write_text("\n".join([*lines, '{"kind": "run_end"}\n']))
    result = {
        "status": evil,
        "reason": evil,
        "headline": evil,
        "lines": [evil],
        "notes": [evil],
        "best": {"epoch": 0, "metric": evil, "value": evil},
        "steps": evil,
    }
    (tmp_path / "result.json").write_text(json.dumps(result))
    table = Table(evil, [evil], [[evil]], note=evil)
    path = write_report(folder, title=evil, description=evil, figures={evil: picture(evil)}, tables=[table])
    page = Page(path)
    assert page.of("h1") == [evil.replace("\ud800\x00", "\ufffd\ufffd")]
    tags = {tag for tag, _ in page.elements}
    assert "script" not in tags
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert all(a["src"].startswith("data:") for tag, a in page.elements if tag == "img")


def test_a_long_run_shows_200_rows_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    records = [EpochRecord(n, n, {}, {"loss": abs(n - 700.5)}) for n in range(1000)]
    lines = [dumps({"kind": "epoch_end", **record.as_json()}) for record in records]
    (tmp_path / "telemetry.jsonl").write_text("\n".join(lines) + "\n")
    page = Page(write_report(RunFolder(tmp_path), title="x"))
    start = page.source.index('id="epochs"')
    table = page.source[start : page.source.index("</section>", start)]
    assert "200 of 1\u202f000 epochs" in table
    assert table.count("<tr>") == 201
    assert all(f'<th scope="row">{epoch}' in table for epoch in (0, 999, 700))
    assert table.count("★") == 1


def test_a_run_of_ones_own_is_repeated_in_python(run: RunFolder) -> None:
    config = json.loads(run.config_path.read_text())
    run.write_json(run.config_path, {**config, "settings": {}})
    run.result_path.unlink()
    run.telemetry_path.write_text("")
    text = Page(write_report(run, title="x")).text
    call = "trainer.fit(model, objective, data, epochs=12, batch_size=8, validation=validation, seed=0, run="
    assert call in text
    assert "resume=True)" in text


def test_the_path_stands_as_it_was_given(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path.parent)
    run.path.rename("my run")
    folder = RunFolder("my run")
    assert write_report(folder, title="x") == Path("my run/report.html")
    assert "hardgrad report 'my run'" in Page(folder.path / "report.html").text


@pytest.mark.parametrize("name", ["config.json", "result.json"])
@pytest.mark.parametrize("content", ["[]", "{"])
def test_a_damaged_file_is_named(run: RunFolder, name: str, content: str) -> None:
    (run.path / name).write_text(content)
    with pytest.raises(UsageError, match=rf"{name} is damaged"):
        write_report(run, title="x")


def test_a_folder_that_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.json is missing"):
        write_report(RunFolder(tmp_path), title="x")


def test_nothing_half_written_is_left(run: RunFolder) -> None:
    write_report(run, title="x")
    assert not list(run.path.rglob(".*.tmp"))
    assert len(list(run.records())) == 12
