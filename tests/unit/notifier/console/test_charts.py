"""Curves and calibration: where everything stands in a drawing."""

from hypothesis import given
from hypothesis import strategies as st

from services.notifier.console import charts
from services.notifier.console.charts import Seen, Series

SHARES = st.floats(0, 3, allow_nan=False)


@given(st.lists(SHARES, min_size=1, max_size=20))
def test_an_axis_holds_every_value_on_a_few_round_lines(values: list[float]) -> None:
    low, high, step = charts.axis(values)
    assert low - 1e-6 <= min(values)
    assert max(values) <= high + 1e-6
    assert 1 <= round((high - low) / step) <= 4


@given(st.lists(st.none() | SHARES, min_size=1, max_size=40), st.sampled_from([460, 358]))
def test_nothing_is_drawn_outside(values: list[float | None], width: int) -> None:
    labels = [f"m{number}" for number in range(len(values))]
    found = charts.chart(
        [Series(name="Rate", kind="one", values=values)], labels, width=width, height=150,
        target=0.9, least=0,
    )  # fmt: skip
    (curve,) = found.curves
    assert len(curve.dots) == sum(value is not None for value in values)
    for dot in curve.dots:
        assert found.left <= dot.x <= found.right
        assert found.top <= dot.y <= found.base
    assert found.ticks[-1].text == labels[-1]


def test_a_month_without_a_rate_is_a_gap_and_an_open_month_an_open_dot() -> None:
    found = charts.chart(
        [Series(name="Churn rate", kind="one", values=[0.02, None, 0.04, 0.03])],
        ["Jul", "Aug", "Sep", "Oct"],
        width=460, height=170, provisional=[False, False, False, True], least=0,
    )  # fmt: skip
    (curve,) = found.curves
    assert curve.path.count("M") == 2
    assert [dot.open for dot in curve.dots] == [False, False, True]
    assert curve.dots[-1].says == "Oct: churn rate 3 %, provisional"
    # 0 to 4 % in steps of 1 %: the most stands at the top, nothing at the base.
    assert [line.text for line in found.grid] == ["0 %", "1 %", "2 %", "3 %", "4 %"]
    assert curve.dots[1].y == found.top


def test_what_is_predicted_and_happens_lies_on_the_diagonal() -> None:
    bins = [
        Seen(predicted=0.1, observed=0.1, rows=400),
        Seen(predicted=0.4, observed=0.4, rows=100),
    ]
    found = charts.calibration(bins, size=320)
    for dot in found.dots:
        across = (dot.x - found.left) / (found.right - found.left)
        up = (found.base - dot.y) / (found.base - found.top)
        assert abs(across - up) < 0.01
    assert found.dots[0].radius > found.dots[1].radius
