from tocsin_alerting.promql.parser.signatures import FUNCTIONS, ValueType, signature


def test_the_table_is_in_alphabetical_order() -> None:
    assert list(FUNCTIONS) == sorted(FUNCTIONS)


def test_what_may_be_left_out_is_the_last_argument() -> None:
    for name, known in FUNCTIONS.items():
        assert known.variadic == 0 or known.args, name


def test_a_function_of_one_semantics_is_unknown_to_the_other() -> None:
    assert signature("holt_winters", 3) is None
    assert signature("double_exponential_smoothing", 2) is None
    assert signature("holt_winters", 2) == signature("holt_winters", 2)
    assert signature("no_such", 3) is None
    rate = signature("rate", 2)
    assert rate is not None and rate is signature("rate", 3)
    assert (rate.args, rate.returns) == ((ValueType.MATRIX,), ValueType.VECTOR)
