//! What was measured, as medians, ratios and a table.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{Contender, Plan};
use crate::latencies::Points;

/// One contender in one round.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Who.
    pub contender: Contender,
    /// The round.
    pub pair: usize,
    /// From start to ready.
    pub ready_ms: f64,
    /// Resident memory before any load.
    pub idle_mib: f64,
    /// The most resident memory, after the full load.
    pub peak_mib: f64,
    /// Acknowledged under full load.
    pub events: usize,
    /// From the first request to the last arrival, under full load.
    pub events_per_s: f64,
    /// Acknowledged and never arrived, under both loads.
    pub lost: usize,
    /// Arrived again, under both loads.
    pub repeated: u64,
    /// Not answered 200, under both loads.
    pub refused: u64,
    /// The contender's CPU time, under full load.
    pub cpu_s_per_1000: f64,
    /// Generator's and sink's CPU time, under full load.
    pub harness_cpu_s_per_1000: f64,
    /// Bytes written by the contender for each byte of body.
    pub written_per_received: f64,
    /// At half of `events_per_s`.
    pub half: Half,
    /// Average batch sizes by the contender's own metrics.
    pub batches: BTreeMap<String, f64>,
}

/// Latencies at half load.
#[derive(Debug, Clone, Serialize)]
pub struct Half {
    /// The rate that was reached.
    pub events_per_s: f64,
    /// From due to answered.
    pub ack: Points,
    /// From due to arrived.
    pub end_to_end: Points,
}

/// All samples and what they come to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Seconds of each load.
    pub load_s: f64,
    /// Connections of the generator.
    pub connections: usize,
    /// Runs that were in the PostgreSQL before, when it was one; its server's CPU and bytes are in no figure.
    pub postgres_runs: Option<u64>,
    /// Medians by contender.
    pub medians: Vec<Medians>,
    /// The product against each ceiling: medians of the rounds' ratios.
    pub ratios: Vec<Ratio>,
    /// Everything.
    pub samples: Vec<Sample>,
}

/// One contender's medians over the rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Medians {
    /// Who.
    pub contender: Contender,
    /// By name of the figure, in the table's order.
    pub figures: Vec<(&'static str, f64)>,
    /// Summed over all rounds: lost, repeated, refused.
    pub lost_repeated_refused: (usize, u64, u64),
}

/// The product against one ceiling.
#[derive(Debug, Clone, Serialize)]
pub struct Ratio {
    /// Which ceiling.
    pub ceiling: Contender,
    /// Product's events/s by the ceiling's.
    pub events_per_s: f64,
    /// Product's CPU by the ceiling's.
    pub cpu: f64,
    /// Product's written bytes by the ceiling's; nothing where the ceiling writes nothing.
    pub written: Option<f64>,
}

/// A figure's name and where it is in a sample.
type Figure = (&'static str, fn(&Sample) -> f64);

const FIGURES: [Figure; 14] = [
    ("events/s end to end", |it| it.events_per_s),
    ("CPU s per 1,000", |it| it.cpu_s_per_1000),
    ("harness CPU s per 1,000", |it| it.harness_cpu_s_per_1000),
    ("written bytes per byte", |it| it.written_per_received),
    ("memory idle, MiB", |it| it.idle_mib),
    ("memory at most, MiB", |it| it.peak_mib),
    ("ready after, ms", |it| it.ready_ms),
    ("half load, events/s", |it| it.half.events_per_s),
    ("  ack p50, ms", |it| it.half.ack.p50_ms),
    ("  ack p95, ms", |it| it.half.ack.p95_ms),
    ("  ack p99, ms", |it| it.half.ack.p99_ms),
    ("  end to end p50, ms", |it| it.half.end_to_end.p50_ms),
    ("  end to end p95, ms", |it| it.half.end_to_end.p95_ms),
    ("  end to end p99, ms", |it| it.half.end_to_end.p99_ms),
];

impl Report {
    pub(super) fn new(samples: Vec<Sample>, plan: &Plan) -> Report {
        let medians = plan.contenders.iter().map(|contender| medians(*contender, &samples)).collect();
        let ratios = [Contender::Durable, Contender::NoStorage].map(|ceiling| ratio(ceiling, &samples));
        Report {
            load_s: plan.duration.as_secs_f64(),
            connections: plan.connections,
            postgres_runs: plan.postgres.as_ref().map(|databases| databases.runs),
            medians,
            ratios: ratios.into_iter().flatten().collect(),
            samples,
        }
    }

    /// True when no contender lost an acknowledged event.
    pub fn nothing_lost(&self) -> bool {
        self.samples.iter().all(|sample| sample.lost == 0)
    }
}

fn medians(contender: Contender, samples: &[Sample]) -> Medians {
    let own: Vec<&Sample> = samples.iter().filter(|it| it.contender == contender).collect();
    Medians {
        contender,
        figures: FIGURES.map(|(name, of)| (name, median(own.iter().map(|it| of(it)).collect()))).to_vec(),
        lost_repeated_refused: own
            .iter()
            .fold((0, 0, 0), |sum, it| (sum.0 + it.lost, sum.1 + it.repeated, sum.2 + it.refused)),
    }
}

fn ratio(ceiling: Contender, samples: &[Sample]) -> Option<Ratio> {
    let of = |who| samples.iter().filter(move |it: &&Sample| it.contender == who);
    let pairs: Vec<(&Sample, &Sample)> = of(Contender::Sheaf)
        .filter_map(|product| Some((product, of(ceiling).find(|it| it.pair == product.pair)?)))
        .collect();
    let median_of = |figure: fn(&Sample) -> f64| {
        median(pairs.iter().map(|(product, ceiling)| figure(product) / figure(ceiling)).collect())
    };
    let written = median_of(|it| it.written_per_received);
    (!pairs.is_empty()).then(|| Ratio {
        ceiling,
        events_per_s: median_of(|it| it.events_per_s),
        cpu: median_of(|it| it.cpu_s_per_1000),
        written: written.is_finite().then_some(written),
    })
}

/// The middle of them; not a number when there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle)) {
        (_, None) => f64::NAN,
        (1, Some(value)) => *value,
        (_, Some(value)) => (value + values[middle - 1]) / 2.0,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<26}", "medians")?;
        for column in &self.medians {
            write!(f, "{:>12}", column.contender.title())?;
        }
        for (row, (name, _)) in FIGURES.iter().enumerate() {
            write!(f, "\n{name:<26}")?;
            for column in &self.medians {
                write!(f, "{:>12}", number(column.figures[row].1))?;
            }
        }
        write!(f, "\n{:<26}", "lost, repeated, refused")?;
        for column in &self.medians {
            let (lost, repeated, refused) = column.lost_repeated_refused;
            write!(f, "{:>12}", format!("{lost}, {repeated}, {refused}"))?;
        }
        for ratio in &self.ratios {
            let written = ratio.written.map(|it| format!(", written bytes x {it:.2}")).unwrap_or_default();
            let percent = ratio.events_per_s * 100.0;
            let title = ratio.ceiling.title();
            write!(f, "\nsheaf to {title}: {percent:.0} % of its events/s, CPU x {:.2}{written}", ratio.cpu)?;
        }
        if let Some(runs) = self.postgres_runs {
            write!(f, "\non PostgreSQL with {runs} runs before; its server's CPU and bytes are not counted")?;
        }
        for sample in self.samples.iter().filter(|it| !it.batches.is_empty() && it.pair == 0) {
            let batches: Vec<String> =
                sample.batches.iter().map(|(name, size)| format!("{name} {}", number(*size))).collect();
            write!(f, "\naverage batches of {}: {}", sample.contender.title(), batches.join(", "))?;
        }
        Ok(())
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_middles() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
