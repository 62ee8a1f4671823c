//! Reading the Prometheus text format, strictly: what Prometheus would refuse, or what its conventions advise against,
//! is an error.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

/// All series of one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextFamily {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it is.
    pub help: String,
    /// The lines, in order.
    pub samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name, with the suffix that lines of histograms have.
    pub name: String,
    /// Names and values of its labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl TextFamily {
    /// The sum of the values of all series; of a histogram, how often something was observed.
    pub fn total(&self) -> f64 {
        let counted = |sample: &&Sample| self.kind != "histogram" || sample.name.ends_with("_count");
        self.samples.iter().filter(counted).map(|sample| sample.value).sum()
    }

    /// The buckets of a histogram, all series taken together: upper bound and how much is below it.
    pub fn buckets(&self) -> Vec<(f64, f64)> {
        let mut sums: Vec<(f64, f64)> = Vec::new();
        for sample in self.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
            let Some(bound) = sample.labels.get("le").and_then(|bound| read_number(bound)) else { continue };
            match sums.iter_mut().find(|(known, _)| *known == bound) {
                Some((_, sum)) => *sum += sample.value,
                None => sums.push((bound, sample.value)),
            }
        }
        sums.sort_by(|a, b| a.0.total_cmp(&b.0));
        sums
    }
}

/// The value below which a share `q` (0 to 1) of what was observed lies, by the buckets of a histogram: within a bucket
/// all values are taken to be spread evenly. `None` if nothing was observed.
pub fn quantile(buckets: &[(f64, f64)], q: f64) -> Option<f64> {
    let total = buckets.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let rank = q.clamp(0.0, 1.0) * total;
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank && *count > below {
            // Above the last bound nothing more is known.
            return Some(if bound.is_finite() {
                lower + (bound - lower) * (rank - below) / (count - below)
            } else {
                lower
            });
        }
        (lower, below) = (*bound, *count);
    }
    None
}

/// Reads a whole exposition. The error names the line and what is wrong with it.
///
/// # Errors
/// The first thing that does not follow the format (version 0.0.4) or its conventions: a family without help or type or
/// with two of them, a name or label that is none, a series that comes twice, a counter that is not called `…_total` or is
/// negative, a histogram whose buckets do not add up, a last line without an end.
pub fn read_exposition(text: &str) -> Result<BTreeMap<String, TextFamily>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".to_owned());
    }
    let mut families = BTreeMap::<String, TextFamily>::new();
    let mut current = String::new();
    let mut seen = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let at = |reason: String| format!("line {}: {reason}: {line}", index + 1);
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or_else(|| at("a help without text".to_owned()))?;
            if !is_metric_name(name) {
                return Err(at(format!("{name:?} is no name")));
            }
            let family = TextFamily { help: help.to_owned(), ..TextFamily::default() };
            if families.insert(name.to_owned(), family).is_some() {
                return Err(at("a family comes twice".to_owned()));
            }
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let family = families.get_mut(&current).filter(|family| family.kind.is_empty());
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, ""));
            let family = family.filter(|_| name == current).ok_or_else(|| at("a type without its help".to_owned()))?;
            if !matches!(kind, "counter" | "gauge" | "histogram") {
                return Err(at(format!("{kind:?} is no type in use here")));
            }
            family.kind = kind.to_owned();
        } else {
            let sample = read_sample(line).map_err(&at)?;
            if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(at("a series comes twice".to_owned()));
            }
            let family = families.get_mut(&current).ok_or_else(|| at("a value without a family".to_owned()))?;
            check_sample(&current, family, &sample).map_err(&at)?;
            family.samples.push(sample);
        }
    }
    for (name, family) in &families {
        check_family(name, family).map_err(|reason| format!("{name}: {reason}"))?;
    }
    Ok(families)
}

fn read_sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("a line without a value")?;
    let (name, rest) = line.split_at(end);
    if !is_metric_name(name) {
        return Err(format!("{name:?} is no name"));
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => read_labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.strip_prefix(' ').and_then(read_number).ok_or("no number at the end")?;
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// What stands behind `{`, and what follows the `}`.
fn read_labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    loop {
        let (name, value) = rest.split_once("=\"").ok_or("a label without a value")?;
        if !is_label_name(name) {
            return Err(format!("{name:?} is no label"));
        }
        let mut text = String::new();
        let mut letters = value.char_indices();
        let end = loop {
            match letters.next() {
                Some((at, '"')) => break at,
                Some((_, '\\')) => match letters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, letter @ ('\\' | '"'))) => text.push(letter),
                    _ => return Err("an unknown escape in a label".to_owned()),
                },
                Some((_, letter)) => text.push(letter),
                None => return Err("a label without an end".to_owned()),
            }
        };
        if labels.insert(name.to_owned(), text).is_some() {
            return Err(format!("the label {name} comes twice"));
        }
        rest = value.get(end + 1..).unwrap_or_default();
        match (rest.strip_prefix(','), rest.strip_prefix('}')) {
            (Some(more), _) => rest = more,
            (None, Some(after)) => return Ok((labels, after)),
            (None, None) => return Err("labels without an end".to_owned()),
        }
    }
}

fn read_number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        // Rust also reads forms that the format does not have, such as `inf`.
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => text.parse().ok(),
        _ => None,
    }
}

fn is_metric_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':') && !name.starts_with("__")
}

fn check_sample(family_name: &str, family: &TextFamily, sample: &Sample) -> Result<(), String> {
    let suffix = sample.name.strip_prefix(family_name).ok_or("a value of another family")?;
    let fits = match family.kind.as_str() {
        "histogram" => match suffix {
            "_bucket" => sample.labels.contains_key("le"),
            "_sum" | "_count" => !sample.labels.contains_key("le"),
            _ => false,
        },
        "" => return Err("a value before its type".to_owned()),
        _ => suffix.is_empty(),
    };
    if !fits {
        return Err(format!("a {} has no such line", family.kind));
    }
    if family.kind != "gauge" && (sample.value.is_nan() || sample.value < 0.0) {
        return Err("it cannot be negative".to_owned());
    }
    Ok(())
}

fn check_family(name: &str, family: &TextFamily) -> Result<(), String> {
    if family.kind.is_empty() {
        return Err("it has no type".to_owned());
    }
    if family.help.trim().is_empty() {
        return Err("its help is empty".to_owned());
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("a name is in lower case".to_owned());
    }
    if (family.kind == "counter") != name.ends_with("_total") {
        return Err("counters, and only they, end in _total".to_owned());
    }
    if ["_count", "_sum", "_bucket"].iter().any(|suffix| name.ends_with(suffix)) {
        return Err("the name is that of a line of a histogram".to_owned());
    }
    if family.kind == "histogram" { check_histogram(family) } else { Ok(()) }
}

fn check_histogram(family: &TextFamily) -> Result<(), String> {
    let mut open: Option<(f64, f64)> = None;
    for sample in &family.samples {
        let bound =
            sample.labels.get("le").map(|bound| read_number(bound).ok_or("a bound is no number")).transpose()?;
        open = match (bound, open) {
            (Some(bound), Some((last, _))) if bound <= last => return Err("bounds do not ascend".to_owned()),
            (Some(_), Some((_, below))) if sample.value < below => return Err("buckets do not add up".to_owned()),
            (Some(bound), _) => Some((bound, sample.value)),
            (None, Some((last, below))) if sample.name.ends_with("_count") => {
                if last.is_finite() || below != sample.value {
                    return Err("the last bucket does not hold everything".to_owned());
                }
                None
            }
            (None, open) => open,
        };
    }
    if open.is_some() { Err("it has no count".to_owned()) } else { Ok(()) }
}
