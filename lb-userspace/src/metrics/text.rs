//! From OpenMetrics to Prometheus' classic text format (version 0.0.4), which is what kube-proxy serves and
//! what Kubernetes' tests and old scrapers read.
//!
//! They differ in how a counter is announced: OpenMetrics says `# TYPE requests counter` and then counts
//! `requests_total`, the classic format announces the name that is counted. Bounds of histograms are
//! written as Go's client does (`le="1"`), so that series keep their names when kube-proxy is replaced.

/// `open_metrics` in the classic format.
pub(super) fn to_classic(open_metrics: &str) -> String {
    let mut classic = String::with_capacity(open_metrics.len() + 1024);
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        // The type stands on the line after the help.
        let announced = line
            .strip_prefix("# HELP ")
            .map(|rest| (rest, lines.peek()));
        let is_counter = match announced {
            Some((_, next)) => next.is_some_and(|next| is_counter(next)),
            None => is_counter(line),
        };
        if is_counter {
            let (keyword, rest) = line.split_at("# HELP ".len());
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            classic.extend([keyword, name, "_total ", rest]);
        } else if let Some((before, after)) = line.split_once("le=\"") {
            let (bound, after) = after.split_once('"').unwrap_or((after, ""));
            let bound = bound.strip_suffix(".0").unwrap_or(bound);
            classic.extend([before, "le=\"", bound, "\"", after]);
        } else {
            classic.push_str(line);
        }
        classic.push('\n');
    }
    classic
}

fn is_counter(line: &str) -> bool {
    line.starts_with("# TYPE ") && line.ends_with(" counter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_announced_by_the_name_that_is_counted() {
        let open_metrics = "# HELP a Things.\n# TYPE a counter\na_total{x=\"1\"} 5\n\
            # HELP b_total Gauge all the same.\n# TYPE b_total gauge\n# UNIT b_total x\nb_total 1\n\
            # HELP c Times.\n# TYPE c histogram\nc_sum 0.5\nc_bucket{le=\"1.0\"} 1\nc_bucket{f=\"x\",le=\"0.25\"} 1\n\
            c_bucket{le=\"+Inf\"} 1\n# EOF\n";
        let classic = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\"} 5\n\
            # HELP b_total Gauge all the same.\n# TYPE b_total gauge\nb_total 1\n\
            # HELP c Times.\n# TYPE c histogram\nc_sum 0.5\nc_bucket{le=\"1\"} 1\nc_bucket{f=\"x\",le=\"0.25\"} 1\n\
            c_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(to_classic(open_metrics), classic);
    }
}
