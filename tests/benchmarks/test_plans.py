"""The tables of docs/pods.md are those of the rows in docs/plans."""

from benchmarks import plans


def test_the_page_has_the_rows():
    text = plans.PAGE.read_text()
    assert plans.page(text, plans.rows()) == text


def test_a_table_by_hand():
    row = {
        "stage": "ldm.x", "topology": "v5e:2x2", "chips": 4, "batch_per_chip": 8.0, "remat": "dots",
        "hbm": {"peak": 3 * 2**30}, "seconds": {"compute": 0.02, "memory": 0.01, "interconnect": 0.005},
        "mfu_bound": 0.5, "samples_per_chip_hour": 7200.0, "training": {"chip_hours": 1234.0, "days": 1.5},
        "model_flops_per_step": 6.0, "unit_flops_per_step": 8.0, "traffic": {"memory": 1, "interconnect": 1},
        "largest": {"of": "compute", "groups": [{"what": "a/b", "array": "f32[2]", "flops": 2.0}]},
    }  # fmt: skip
    lines = plans.page(f"before {plans.START} old {plans.END} after", [row]).splitlines()
    assert (
        lines[0] == f"before {plans.START}" and lines[-1] == f"{plans.END} after" and lines[2] == "**v5e:2x2**, 4 chips"
    )
    cells = "ldm.x", "8, dots", "3.0 GiB", "**20.0 ms**", "10.0 ms", "5.0 ms", "50%", "2.0", "1,234", "1.50"
    assert lines[6] == "| " + " | ".join(cells) + " |"
    assert lines[11] == "| ldm.x | 75% | compute | `a/b` f32[2], 25% |"
