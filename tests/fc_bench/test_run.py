"""A whole run on the tiny world, through the command line."""


def test_default_methods_run_end_to_end(fc_bench, tiny_backbone, suite, plugin, tmp_path, records):
    done = fc_bench(
        "run", suite, "--backbone", tiny_backbone, "-m", "text-only", "-m", "paste", "--out", tmp_path / "run"
    )
    print(done.out, done.err)
    assert done.code == 0, done.err
