"""Damaged, forged and foreign bundles: one sentence each, and nothing is run."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from shipped import rows, sign_again

from hardgrad.core import BundleError
from hardgrad.export import _load, _manifest, load_bundle

FILES = ["metadata.json", "model.stablehlo", "example.safetensors", "SHA256SUMS"]


@pytest.fixture(autouse=True)
def never_run(monkeypatch):
    """A bundle that is refused was not even read as a program."""

    def deserialize(data):
        raise AssertionError("a bad model reached JAX")

    monkeypatch.setattr(_load.jax.export, "deserialize", deserialize)


def refused(folder, **given):
    with pytest.raises(BundleError) as caught:
        load_bundle(folder, **given)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere(folder, name):
    path = folder / name
    good = path.read_bytes()
    random = np.random.default_rng(0)
    for place in {0, len(good) - 1, *random.integers(0, len(good), 150).tolist()}:
        bad = bytearray(good)
        bad[place] ^= 1 << int(random.integers(8))
        path.write_bytes(bad)
        said = refused(folder)
        assert "damaged" in said or "not a bundle of hardgrad" in said


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_grown_or_missing(folder, name):
    path = folder / name
    good = path.read_bytes()
    for bad in (b"", good[:1], good[: len(good) // 2], good[:-1], good + b"\n", good + good):
        path.write_bytes(bad)
        assert "damaged" in refused(folder)
    path.unlink()
    assert refused(folder).endswith(f"{name} is missing. Copy the bundle again, or export it again.")


@pytest.mark.parametrize("name", FILES)
def test_links_folders_and_pipes_in_place_of_a_file(folder, tmp_path, name):
    path = folder / name
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)  # the right content, elsewhere
    assert "(a link); a bundle holds plain files only" in refused(folder)
    path.unlink()
    path.mkdir()
    assert "no plain file" in refused(folder)
    path.rmdir()
    os.mkfifo(path)
    assert "no plain file" in refused(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_beyond_all_measure_is_not_read(folder, monkeypatch, name):
    monkeypatch.setitem(_manifest._LIMITS, name, (folder / name).stat().st_size - 1)
    assert "more than the" in refused(folder)


def test_no_folder_and_no_bundle(tmp_path):
    assert "there is no such folder" in refused(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    assert "there is no such folder" in refused(tmp_path / "file")
    assert "metadata.json is missing" in refused(tmp_path)


def test_another_digest(folder):
    assert "is not the bundle expected: its digest is" in refused(folder, expected_digest="0" * 64)


def changed(folder, *path, to):
    """Change metadata.json, and sign it again; what matches is checked no further by checksums."""
    content = json.loads((folder / "metadata.json").read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if to is KeyError:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    (folder / "metadata.json").write_text(json.dumps(content))
    sign_again(folder)


@pytest.mark.parametrize(
    ("path", "to", "said"),
    [
        (("schema",), "zeroproofml_export_bundle", "its schema is not 'hardgrad.bundle'"),
        (("schema",), KeyError, "its schema is not 'hardgrad.bundle'"),
        (("version",), 2, "version 2; this hardgrad reads 1. Install a newer hardgrad."),
        (("version",), 0, "version 0; this hardgrad reads 1. Copy the bundle again"),
        (("version",), True, "version True"),
        (("version",), "1", "version '1'"),
        (("calling_convention_version",), 10**6, "can't read. Install a newer JAX"),
        (("calling_convention_version",), 1, "can't read. Install that JAX"),
        (("calling_convention_version",), None, "can't read"),
        (("files",), [], "'files' must name model.stablehlo and example.safetensors"),
        (("files", "../../etc/passwd"), {"bytes": 1, "sha256": "0" * 64}, "names '../../etc/passwd', which is no file"),
        (("files", "/etc/passwd"), {"bytes": 1, "sha256": "0" * 64}, "names '/etc/passwd', which is no file"),
        (("files", "model.stablehlo", "bytes"), 10, "is damaged: "),
        (("files", "model.stablehlo", "bytes"), -1, "no size and SHA-256 of model.stablehlo"),
        (("files", "model.stablehlo", "sha256"), "f" * 63, "no size and SHA-256 of model.stablehlo"),
        (("files", "model.stablehlo"), 1, "no size and SHA-256 of model.stablehlo"),
        (("inputs",), [], "'inputs' must be a list of 1 to 256"),
        (("inputs",), "x", "'inputs' must be a list of 1 to 256"),
        (("inputs", 0), None, "no name, shape and dtype"),
        (("inputs", 0, "name"), "__import__('os')", "no name, shape and dtype"),
        (("inputs", 0, "dtype"), "object", "no name, shape and dtype"),
        (("inputs", 0, "dtype"), ["float32"], "no name, shape and dtype"),
        (("inputs", 0, "shape"), ["batch", -1], "no name, shape and dtype"),
        (("inputs", 0, "shape"), ["batch"] * 33, "no name, shape and dtype"),
        (("inputs", 0, "shape"), [2, 2], "the input 'x' has no batch axis"),
        (("outputs", 1, "name"), "decoded", "'outputs' holds a name twice"),
        (("platforms",), [], "'platforms' must be a list of names"),
        (("platforms",), ["cpu; rm"], "'platforms' must be a list of names"),
    ],
)
def test_forged_metadata(folder, path, to, said):
    changed(folder, *path, to=to)
    assert said in refused(folder)


def places(value, path=()):
    """Every place in a JSON value."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


def test_anything_anywhere_in_the_metadata(folder, monkeypatch):
    """Loaded as it was, or refused in a sentence."""
    monkeypatch.undo()
    good = (folder / "metadata.json").read_text()
    odd = [None, True, -1, 2**70, 0.5, "", "../x", "rows", [], [1], {}, {"name": "x"}, "a" * 100_000]
    guarded = {"schema", "version", "inputs", "outputs", "platforms", "files", "calling_convention_version"}
    random, outcomes = np.random.default_rng(0), {}
    for place in list(places(json.loads(good)))[1:]:
        for i in random.permutation(len(odd))[:4]:
            (folder / "metadata.json").write_text(good)
            changed(folder, *place, to=odd[i])
            try:
                load_bundle(folder)
            except BundleError as error:
                said = str(error)
                outcomes.setdefault(place[0], []).append(len(said.splitlines()) == 1 and len(said) < 1000)
            else:
                outcomes.setdefault("loaded", []).append(place[0] not in guarded or place[-1] == "name")
    assert outcomes.keys() == guarded | {"loaded"}
    assert all(all(right) for right in outcomes.values())


@pytest.mark.parametrize("text", ["", "[]", "null", "1", "{", '"hardgrad.bundle"', "[" * 100_000, "\udcff"])
def test_metadata_that_is_no_object(folder, text):
    (folder / "metadata.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    said = refused(folder)
    assert "damaged" in said or "not a bundle of hardgrad" in said


@pytest.mark.parametrize("line", ["{}  ../secret\n", "{}  /etc/passwd\n", "{}  notes.txt\n", "nonsense\n", "\n"])
def test_a_list_of_sums_that_names_something_else(folder, line):
    with open(folder / "SHA256SUMS", "a") as file:
        file.write(line.format("0" * 64))
    assert "it is not the list of this bundle's files" in refused(folder)


def test_files_beside_are_left_alone(made, folder, monkeypatch):
    (folder / "README").write_text("notes")
    (folder / "link").symlink_to("/etc/passwd")
    monkeypatch.undo()
    assert load_bundle(folder).digest == made.digest


@pytest.mark.parametrize(
    ("path", "to"),
    [(("inputs", 0, "shape"), ["batch", 3]), (("outputs", 0, "dtype"), "float64"), (("platforms",), ["cpu", "cuda"])],
)
def test_a_program_that_is_not_the_one_described(folder, monkeypatch, path, to):
    changed(folder, *path, to=to)
    monkeypatch.undo()
    assert "not the program that metadata.json describes" in refused(folder)


def test_a_forged_program_that_is_none(folder, monkeypatch):
    data = b"not a program, whatever the checksums say" * 10
    (folder / "model.stablehlo").write_bytes(data)
    described = {"bytes": len(data), "sha256": _manifest.sha256(data)}
    changed(folder, "files", "model.stablehlo", to=described)
    monkeypatch.undo()
    assert "can't be read by JAX" in refused(folder)


def test_examples_that_fit_nothing_fail_the_self_test(folder, monkeypatch):
    import safetensors.numpy

    arrays = safetensors.numpy.load((folder / "example.safetensors").read_bytes())
    monkeypatch.undo()
    for name, said in (("decoded", "'decoded' differs in"), ("bottom_mask", "'bottom_mask' differs in 5 of 5")):
        key = f"example.output.{name}"
        bad = ~arrays[key] if name == "bottom_mask" else arrays[key] * np.float32(1.001)
        _replace_example(folder, safetensors.numpy.save({**arrays, key: bad}))
        with pytest.raises(BundleError, match=f"fails its self-test here: {said}"):
            load_bundle(folder).self_test()
    near = {**arrays, "example.output.decoded": arrays["example.output.decoded"] * np.float32(1 + 1e-6)}
    _replace_example(folder, safetensors.numpy.save(near))
    parity = load_bundle(folder).self_test()
    assert not parity.bitwise
    assert 0 < parity.worst < 1e-5
    for data in (b"nonsense", safetensors.numpy.save({"a": rows()})):
        _replace_example(folder, data)
        with pytest.raises(BundleError, match=r"example\.safetensors is damaged"):
            load_bundle(folder).self_test()


def _replace_example(folder, data):
    (folder / "example.safetensors").write_bytes(data)
    changed(folder, "files", "example.safetensors", to={"bytes": len(data), "sha256": _manifest.sha256(data)})
