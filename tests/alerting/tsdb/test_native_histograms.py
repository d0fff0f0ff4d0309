from tocsin_alerting.tsdb.native_histograms import MOST_NAMES, REMEMBERED_MS, NativeHistograms


def test_only_what_came_lately_is_held() -> None:
    names = NativeHistograms()
    assert not names.holds("up"), "nothing came at all"
    names.add("old", 0)
    names.add("new", REMEMBERED_MS)
    assert names.holds("new") and not names.holds("old") and not names.holds("up")
    for number in range(MOST_NAMES):
        names.add(f"m{number}", REMEMBERED_MS)
    assert not names.holds("new") and names.holds("m0")
