use super::*;

#[test]
fn renders_each_kind_in_the_text_format() {
    let metrics = Metrics::new();
    metrics.counter("a_total", "Counts a.", &[("room", "x\"y")]).add(3);
    metrics.gauge("b", "Is b.", &[]).set(-2);
    metrics.observe_gauge("c", "Reads c.", &[], || 1.5);
    let histogram = metrics.histogram("d_seconds", "Times d.", &[0.1, 1.0], &[("way", "in")]);
    for value in [0.1, 0.5, 7.0] {
        histogram.observe(value);
    }
    let expected = "# HELP a_total Counts a.\n# TYPE a_total counter\na_total{room=\"x\\\"y\"} 3\n\
         # HELP b Is b.\n# TYPE b gauge\nb -2\n\
         # HELP c Reads c.\n# TYPE c gauge\nc 1.5\n\
         # HELP d_seconds Times d.\n# TYPE d_seconds histogram\n\
         d_seconds_bucket{way=\"in\",le=\"0.1\"} 1\nd_seconds_bucket{way=\"in\",le=\"1\"} 2\n\
         d_seconds_bucket{way=\"in\",le=\"+Inf\"} 3\nd_seconds_sum{way=\"in\"} 7.6\nd_seconds_count{way=\"in\"} 3\n";
    assert_eq!(metrics.render(), expected);
}

#[test]
fn one_name_and_label_set_is_one_series() {
    let metrics = Metrics::new();
    metrics.counter("a_total", "Counts a.", &[]).add(1);
    metrics.clone().counter("a_total", "Counts a.", &[]).add(1);
    assert_eq!(metrics.counter("a_total", "Counts a.", &[]).get(), 2);
}

#[test]
fn a_name_taken_by_another_kind_is_not_overwritten() {
    let metrics = Metrics::new();
    metrics.counter("a_total", "Counts a.", &[]).add(1);
    metrics.gauge("a_total", "Counts a.", &[]).set(9);
    assert!(metrics.render().contains("a_total 1\n"));
}
