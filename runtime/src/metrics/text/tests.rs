use super::*;
use crate::{Metrics, TIME_BUCKETS};

#[test]
fn what_is_rendered_is_read_again() {
    let metrics = Metrics::new();
    metrics.counter("a_total", "Counts a.", &[("room", "x\"y\\z\n"), ("b", "")]).add(3);
    metrics.gauge("b", "Is b.", &[]).set(-2);
    let times = metrics.histogram("c_seconds", "Times c.", TIME_BUCKETS, &[("way", "in")]);
    metrics.histogram("c_seconds", "Times c.", TIME_BUCKETS, &[("way", "out")]).observe(0.3);
    times.observe(0.3);
    times.observe(40.0);
    let families = read_exposition(&metrics.render()).unwrap();
    assert_eq!(families["a_total"].samples[0].labels["room"], "x\"y\\z\n");
    assert_eq!(families["a_total"].total(), 3.0);
    assert_eq!(families["b"].total(), -2.0);
    assert_eq!(families["c_seconds"].total(), 3.0);
    let buckets = families["c_seconds"].buckets();
    assert_eq!(buckets.len(), TIME_BUCKETS.len() + 1);
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, 3.0)));
    assert!(buckets.contains(&(0.5, 2.0)));
}

#[test]
fn what_prometheus_would_refuse_is_refused() {
    let head = "# HELP a Is a.\n# TYPE a gauge\n";
    let histogram = |lines: &str| format!("# HELP h Is h.\n# TYPE h histogram\n{lines}");
    for bad in [
        format!("{head}a 1"),
        format!("{head}{head}a 1\n"),
        format!("{head}a 1\na 2\n"),
        format!("{head}a{{x=\"1\"}} 1\na{{x=\"1\"}} 2\n"),
        format!("{head}a{{x=\"1\",x=\"2\"}} 1\n"),
        format!("{head}a{{__x=\"1\"}} 1\n"),
        format!("{head}a{{x=\"\\t\"}} 1\n"),
        format!("{head}a{{x=\"1\" 1\n"),
        format!("{head}a inf\n"),
        format!("{head}a\n"),
        format!("{head}b 1\n"),
        format!("{head}\n"),
        "a 1\n".to_owned(),
        "# HELP a Is a.\na 1\n".to_owned(),
        "# HELP a \n# TYPE a gauge\na 1\n".to_owned(),
        "# HELP 1a Is a.\n# TYPE 1a gauge\n".to_owned(),
        "# HELP a Counts a.\n# TYPE a counter\na 1\n".to_owned(),
        "# HELP a_total Is a.\n# TYPE a_total gauge\na_total 1\n".to_owned(),
        "# HELP a_total Counts a.\n# TYPE a_total counter\na_total -1\n".to_owned(),
        histogram("h_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n"),
        histogram("h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 0\nh_sum 1\nh_count 0\n"),
        histogram("h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n"),
        histogram("h_bucket{le=\"1\"} 1\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n"),
        histogram("h_bucket{le=\"+Inf\"} 1\nh_sum 1\n"),
    ] {
        assert!(read_exposition(&bad).is_err(), "{bad}");
    }
    assert!(read_exposition(&histogram("h_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n")).is_ok());
    assert!(read_exposition(&format!("{head}a NaN\n")).is_ok());
}

#[test]
fn quantiles_are_found_in_buckets() {
    let buckets = [(1.0, 0.0), (2.0, 10.0), (4.0, 20.0), (f64::INFINITY, 20.0)];
    assert_eq!(quantile(&buckets, 0.5), Some(2.0));
    assert_eq!(quantile(&buckets, 0.75), Some(3.0));
    assert_eq!(quantile(&buckets, 1.0), Some(4.0));
    assert_eq!(quantile(&[(1.0, 0.0), (f64::INFINITY, 5.0)], 0.5), Some(1.0));
    assert_eq!(quantile(&[(1.0, 0.0), (f64::INFINITY, 0.0)], 0.5), None);
    assert_eq!(quantile(&[], 0.5), None);
}
