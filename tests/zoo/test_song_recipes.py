"""The song recipes: their birds, their ceilings, a user's own recordings, and what a run leaves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hardgrad import zoo
from hardgrad.core import UsageError
from hardgrad.oscillators import Sung, read_wav, simulate_songs, write_songs
from hardgrad.zoo import song_coldstart, song_onestep, song_syrinx
from hardgrad.zoo._song_birds import recorded, windows
from hardgrad.zoo._song_report import Judged, _autonomy, _onset_lines, ceiling
from hardgrad.zoo._song_training import training_data

SMALL = {**song_coldstart.RECIPE.smoke, "birds": "source"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five recordings, and a file that is none."""
    path = tmp_path_factory.mktemp("recordings")
    write_songs(path, simulate_songs(5, seed=3))
    (path / "broken.wav").write_bytes(b"RIFF....")
    (path / "broken.txt").write_text("0.1 0.2\n")
    return path


@pytest.mark.parametrize("module", [song_coldstart, song_onestep, song_syrinx])
def test_all_song_recipes_see_the_same_data_and_are_scored_alike(module):
    recipe = module.RECIPE
    config = recipe.config(**{**recipe.smoke, "birds": "source"})
    experiment = recipe.experiment(config)
    data = recipe.data(config)
    np.testing.assert_array_equal(experiment.data.arrays["source"].sound, data["source"].sound)
    assert data["source"].sound.shape == (16, 2205)
    assert experiment.ties == (("val_bounded_frac", "max"),)
    assert {callback.metric for callback in experiment.trainer.callbacks if hasattr(callback, "metric")} == {
        "val_autonomy"
    }


def test_the_onestep_model_is_the_coldstart_model_without_its_filter():
    small = {**SMALL, "tract": 0}
    ours = song_coldstart.build(song_coldstart.Config(**small))["source"]
    legacy = {key: value for key, value in SMALL.items() if not key.startswith("horizon")}
    theirs = song_onestep.build(song_onestep.Config(**legacy))["source"]
    assert theirs.tract is None
    np.testing.assert_array_equal(ours.encoder.first.weight, theirs.encoder.first.weight)
    assert ours.field == theirs.field


def test_the_headline_says_what_the_best_possible_would_score():
    found = {"autonomy": -0.374, "ceiling": {"autonomy": 0.888}}
    assert _autonomy("source", found) == "-0.37 (source; its own equation scores 0.89)"
    assert _autonomy("tract", found) == "-0.37 (tract; the song without noise scores 0.89)"
    assert _autonomy("recordings", {"autonomy": 0.7}) == "0.70 (recordings)"


def test_held_out_songs_are_other_renditions_and_the_ceiling_is_high():
    config = song_coldstart.Config(birds="both", songs=2, validation_songs=1, test_songs=2)
    birds = config.load()
    assert list(birds) == ["source", "tract"]
    for name, bird in birds.items():
        train = {song.name for song in bird.train} | {song.name for song in bird.validation}
        assert not train & {song.name for song in bird.test}
        tested = windows(bird.test, 3)
        best = Judged.of(tested, Sung(ceiling(bird, tested)))
        assert best.strict.score > 0.98, name  # simulated sound against itself with the microphone's noise
        assert best.published.score > 0.8, name
        assert all(onset.ignited for onset in best.onsets)
    data = training_data(config, birds)
    assert {len(one.category) for one in data.values()} == {config.segments}


def test_an_onset_is_sung_only_out_of_silence():
    config = song_coldstart.Config(birds="tract", songs=1, validation_songs=1, test_songs=1)
    tested = windows(config.load()["tract"].test, 3)
    first, second, third = (np.asarray(window.sound) for window in tested)
    throughout = 0.1 * np.sin(np.arange(len(second)) * 0.1)
    judged = Judged.of(tested, Sung([first, throughout, 0.0 * third])).as_json()
    said = list(_onset_lines({"tract": judged}))
    assert said[0].startswith("tract: 1 of 3 onsets sung, in the median 0.0 ms late")
    assert said[1:] == ["tract: 1 of 3 not silent before the onset, so that it is none"]
    throughout = [0.1 * np.sin(np.arange(len(window.sound)) * 0.1) for window in tested]
    said = list(_onset_lines({"tract": Judged.of(tested, Sung(throughout)).as_json()}))
    assert said == ["tract: no onset sung", "tract: 3 of 3 not silent before the onset, so that it is none"]


def test_a_folder_of_recordings_is_learned_and_what_is_wrong_with_it_is_told(folder, tmp_path, capsys):
    config = song_coldstart.Config(**{**SMALL, "data": str(folder)})
    done = zoo.launch("song-coldstart", config, run=tmp_path / "run")
    said = capsys.readouterr().out
    assert said.count("left out: ") == 1
    assert "broken.wav" in said
    assert list(done.result["birds"]) == ["recorded"]
    assert "ceiling" not in done.result["birds"]["recorded"]
    assert any(line.startswith("recorded") for line in done.lines)
    assert max(len(line) for line in done.lines) <= 80
    target, rate = read_wav(tmp_path / "run" / "sounds" / "recorded-1-target.wav")
    sung, _ = read_wav(tmp_path / "run" / "sounds" / "recorded-1-sung.wav")
    assert rate == 44100
    assert len(target) == len(sung)
    assert max(np.abs(target).max(), np.abs(sung).max()) == pytest.approx(0.95, abs=1e-3)  # on one scale
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best"]["metric"] == "val_autonomy"


def test_too_few_recordings_are_told_before_any_work(tmp_path):
    write_songs(tmp_path, simulate_songs(2, seed=3))
    with pytest.raises(UsageError, match="2 usable recordings; three"):
        recorded(str(tmp_path), seed=0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"horizon_min": 4096}, "horizon_min=4096"),
        ({"batch_size": 4096}, "4096"),
        ({"order": 2}, "order must be at least 3"),
        ({"clip": -1.0}, "clip"),
        ({"songs": 0}, "songs"),
    ],
)
def test_settings_out_of_range_are_named(settings, match):
    with pytest.raises(UsageError, match=match):
        song_coldstart.Config(**settings)


def test_a_horizon_longer_than_the_segments_is_told_before_training():
    with pytest.raises(UsageError, match="context"):
        song_coldstart.experiment(song_coldstart.Config(**{**SMALL, "horizon_max": 4096}))
