import hashlib

import pytest

from driftloop.errors import BundleError
from driftloop.model import bundle


def metadata(**changes):
    values = {
        "window": 30,
        "regimes": 1,
        "manifest": [bundle.ManifestEntry("eng-1", "00", "train", 0, 100)],
        "example": bundle.Example([[[0.0] * 24]], [100.0], [90.0], [110.0]),
        "data_source": "simulated",
        "seed": 1,
        "training": "full",
        "cap": 125,
    }
    return bundle.Metadata(**(values | changes))


def test_metadata_comes_back_as_it_was_written(tmp_path):
    bundle.write_metadata(tmp_path, metadata(metrics={"rmse": 12.5}))
    assert bundle.read_metadata(tmp_path) == metadata(metrics={"rmse": 12.5})


def test_missing_metadata_names_the_file(tmp_path):
    with pytest.raises(BundleError, match=r"metadata\.json: cannot be read"):
        bundle.read_metadata(tmp_path)


def test_a_wrong_field_is_named(tmp_path):
    bundle.write_metadata(tmp_path, metadata())
    path = tmp_path / bundle.METADATA
    path.write_text(path.read_text().replace('"window": 30', '"window": "wide"'))
    with pytest.raises(BundleError, match="at window"):
        bundle.read_metadata(tmp_path)


def test_metadata_from_before_fleets_had_a_schema_is_of_c_mapss(tmp_path):
    bundle.write_metadata(tmp_path, metadata())
    assert bundle.read_metadata(tmp_path).schema.name == "cmapss"


def test_the_digest_covers_exactly_the_serving_files(tmp_path):
    for name in bundle.SERVING_FILES:
        (tmp_path / name).write_text(name)
    lines = "".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n" for name in bundle.SERVING_FILES)
    before = bundle.digest(tmp_path)
    assert before == hashlib.sha256(lines.encode()).hexdigest()
    (tmp_path / bundle.CHECKPOINT).write_text("weights")
    assert bundle.digest(tmp_path) == before
    (tmp_path / bundle.BASELINE).write_text("changed")
    assert bundle.digest(tmp_path) != before


def test_a_bundle_without_its_model_is_refused(tmp_path):
    with pytest.raises(BundleError, match=r"model\.onnx cannot be read"):
        bundle.digest(tmp_path)
