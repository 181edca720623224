//! Families of metrics, each written with its name, help and type.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue};
use prometheus_client::encoding::{MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::count::Durations;

/// The labels of one series.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// Writes one family after another. The names of counters are given without their `_total`.
pub(super) struct Families<'a>(DescriptorEncoder<'a>);

impl<'a> Families<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        family.encode_gauge(&value)
    }

    /// A series for each value of the label.
    pub(super) fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, impl EncodeGaugeValue)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(of, value)| {
            let labels: Labels<'_> = &[(label, of)];
            family.encode_family(&labels)?.encode_gauge(&value)
        })
    }

    /// A gauge that is always 1, with what it says in its labels.
    pub(super) fn info(&mut self, name: &str, help: &str, labels: Labels<'_>) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Gauge)?;
        family.encode_family(&labels)?.encode_gauge(&1_u64)
    }

    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: impl EncodeCounterValue,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    /// A series for each value of the label.
    pub(super) fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Counter)?;
        values.into_iter().try_for_each(|(of, value)| {
            let labels: Labels<'_> = &[(label, of)];
            let mut series = family.encode_family(&labels)?;
            series.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    pub(super) fn histogram(
        &mut self,
        name: &str,
        help: &str,
        durations: &Durations,
    ) -> fmt::Result {
        put_durations(
            &mut self.family(name, help, MetricType::Histogram)?,
            durations,
        )
    }

    /// A series for each value of the label.
    pub(super) fn histograms<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, &'v Durations)>,
    ) -> fmt::Result {
        let mut family = self.family(name, help, MetricType::Histogram)?;
        values.into_iter().try_for_each(|(of, durations)| {
            let labels: Labels<'_> = &[(label, of)];
            put_durations(&mut family.encode_family(&labels)?, durations)
        })
    }

    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        metric_type: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, metric_type)
    }
}

fn put_durations(series: &mut MetricEncoder<'_>, durations: &Durations) -> fmt::Result {
    let (sum, count) = (durations.sum_seconds, durations.count());
    series.encode_histogram::<NoLabelSet>(sum, count, &durations.buckets, None)
}
