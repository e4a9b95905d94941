"""What a scrape shows of the requests that were observed."""

from elanus.observability.metrics import Metrics
from elanus.observability.requests import RequestObserver


def scrape(metrics: Metrics) -> set[str]:
    return set(metrics.render().decode().splitlines())


def test_requests_are_counted_by_method_and_code() -> None:
    metrics = Metrics()
    observer = RequestObserver(metrics, slow_after_s=5.0)
    for code in (0, 0, 100):
        observer.observe("Search", "words", 0.001, code, {})
    lines = scrape(metrics)
    assert 'milvus_proxy_req_count_total{code="0",function_name="Search"} 2.0' in lines
    assert 'milvus_proxy_req_count_total{code="100",function_name="Search"} 1.0' in lines


def test_a_time_is_in_every_bucket_that_it_does_not_exceed() -> None:
    metrics = Metrics()
    observer = RequestObserver(metrics, slow_after_s=5.0)
    for seconds in (0.002, 0.003, 1_000.0):
        observer.observe("Search", "words", seconds, 0, {"search": seconds / 16})
    lines = scrape(metrics)
    name = "milvus_proxy_req_latency"
    for bound, count in (("1.0", 0), ("2.0", 1), ("4.0", 2), ("131072.0", 2), ("+Inf", 3)):
        assert f'{name}_bucket{{function_name="Search",le="{bound}"}} {count}.0' in lines
    assert f'{name}_count{{function_name="Search"}} 3.0' in lines
    assert f'{name}_sum{{function_name="Search"}} 1.000005e+06' in lines
    stage = 'function_name="Search",le="0.25",stage="search"'
    assert f"milvus_proxy_stage_latency_bucket{{{stage}}} 2.0" in lines
