//! `top`: what the addresses and links carry now, from two looks at their counters.

use std::collections::HashMap;

use serde_json::{Value as Json, json};
use tokio::time::{Instant, sleep};

use super::Context;
use crate::client::Rows;
use crate::failure::Outcome;
use crate::options::Top;
use crate::table::{Cell, Style, Table, painted_title};
use crate::value::{Row, text};

pub(crate) async fn run(context: &mut Context, top: &Top) -> Outcome {
    let mut before = Sample::take(context).await?;
    let mut shown = 0;
    while top.count.is_none_or(|count| shown < count) {
        sleep(top.interval).await;
        let now = Sample::take(context).await?;
        let seconds = (now.at - before.at).as_secs_f64();
        let addresses = rates(&before.addresses, &now.addresses, ADDRESS_COUNTERS, seconds);
        let links = rates(&before.links, &now.links, LINK_COUNTERS, seconds);
        match context.output.json {
            true => context.output.line(&document(&addresses, &links))?,
            false => {
                let text = page(&addresses, &links, top.rows, context.output.style);
                context.output.refresh(shown == 0, &text)?;
            }
        }
        before = now;
        shown += 1;
    }
    Ok(())
}

/// The counters of one moment.
struct Sample {
    at: Instant,
    addresses: Rows,
    links: Rows,
}

impl Sample {
    async fn take(context: &mut Context) -> Outcome<Self> {
        let (client, agent) = (&mut context.client, &context.agent);
        let addresses = client.query(agent, "router.address", &[]).await?;
        let links = client.query(agent, "router.link", &[]).await?;
        let at = Instant::now();
        Ok(Self {
            at,
            addresses,
            links,
        })
    }
}

/// How fast some counters of a row grow, in units a second.
struct Rate<'a> {
    row: &'a Row,
    by_counter: Vec<f64>,
}

/// The busiest first. What was not there before counts from zero; a counter that shrank began
/// anew.
fn rates<'a>(before: &Rows, now: &'a Rows, counters: &[&str], seconds: f64) -> Vec<Rate<'a>> {
    let count = |row: &Row, name: &str| row.get(name).and_then(Json::as_u64).unwrap_or(0);
    let identity = |row: &Row| row.get("identity").map(text).unwrap_or_default();
    let old: HashMap<String, &Row> = before.rows.iter().map(|row| (identity(row), row)).collect();
    let rate = |row: &'a Row| {
        let was = old.get(&identity(row));
        let by_counter = counters.iter().map(|name| {
            let (is, was) = (count(row, name), was.map_or(0, |was| count(was, name)));
            let more = is.checked_sub(was).unwrap_or(is);
            if seconds > 0.0 {
                more as f64 / seconds
            } else {
                0.0
            }
        });
        Rate {
            row,
            by_counter: by_counter.collect(),
        }
    };
    let mut rates: Vec<Rate<'a>> = now.rows.iter().map(rate).collect();
    rates.sort_by(|a, b| b.total().total_cmp(&a.total()));
    rates
}

impl Rate<'_> {
    fn total(&self) -> f64 {
        self.by_counter.iter().sum()
    }

    fn field(&self, name: &str) -> String {
        self.row.get(name).map(text).unwrap_or_default()
    }
}

fn page(addresses: &[Rate<'_>], links: &[Rate<'_>], most: usize, style: Style) -> String {
    let mut of_addresses = Table::new(["address", "in/s", "out/s", "transit/s"]);
    for rate in addresses.iter().take(most) {
        let mut row = vec![Cell::text(without_class(&rate.field("key")))];
        row.extend(rate.by_counter.iter().copied().map(number));
        of_addresses.push(row);
    }
    let mut of_links = Table::new([
        "link",
        "conn",
        "dir",
        "address",
        "deliveries/s",
        "unsettled",
    ]);
    for rate in links.iter().take(most) {
        of_links.push(vec![
            Cell::number(rate.field("identity")),
            Cell::number(rate.field("connectionId")),
            Cell::text(rate.field("linkDir")),
            Cell::text(without_class(&rate.field("owningAddr"))),
            number(rate.by_counter.first().copied().unwrap_or_default()),
            Cell::number(rate.field("unsettledCount")),
        ]);
    }
    let (addresses, links) = (
        painted_title("Addresses", style),
        painted_title("Links", style),
    );
    let (of_addresses, of_links) = (of_addresses.render(style), of_links.render(style));
    format!("{addresses}\n{of_addresses}\n{links}\n{of_links}")
}

fn document(addresses: &[Rate<'_>], links: &[Rate<'_>]) -> Json {
    let address = |rate: &Rate<'_>| {
        let [ingress, egress, transit] = [0, 1, 2].map(|index| rate.by_counter[index]);
        let key = rate.field("key");
        json!({"key": key, "in": ingress, "out": egress, "transit": transit})
    };
    let link = |rate: &Rate<'_>| {
        json!({
            "identity": rate.field("identity"),
            "connectionId": rate.field("connectionId"),
            "linkDir": rate.field("linkDir"),
            "owningAddr": rate.field("owningAddr"),
            "deliveries": rate.by_counter[0],
        })
    };
    let addresses: Vec<Json> = addresses.iter().map(address).collect();
    let links: Vec<Json> = links.iter().map(link).collect();
    json!({"addresses": addresses, "links": links})
}

fn number(rate: f64) -> Cell {
    Cell::number(format!("{rate:.1}"))
}

fn without_class(key: &str) -> String {
    key.chars().skip(1).collect()
}

const ADDRESS_COUNTERS: &[&str] = &["deliveriesIngress", "deliveriesEgress", "deliveriesTransit"];
const LINK_COUNTERS: &[&str] = &["deliveryCount"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::golden::check;

    fn links(counts: &[(&str, u64)]) -> Rows {
        let row = |(id, count): &(&str, u64)| {
            let row = json!({"identity": id, "deliveryCount": count, "owningAddr": "Mq"});
            row.as_object().cloned().unwrap()
        };
        let rows = counts.iter().map(row).collect();
        Rows {
            names: Vec::new(),
            rows,
        }
    }

    #[test]
    fn rates_are_growth_by_time_and_the_busiest_comes_first() {
        let before = links(&[("1", 10), ("2", 100), ("3", 50)]);
        let now = links(&[("1", 20), ("2", 100), ("3", 4), ("4", 30)]);
        let rates = rates(&before, &now, LINK_COUNTERS, 2.0);
        let told: Vec<(String, f64)> = rates
            .iter()
            .map(|rate| (rate.field("identity"), rate.total()))
            .collect();
        let told: Vec<(&str, f64)> = told.iter().map(|(id, rate)| (id.as_str(), *rate)).collect();
        assert_eq!(told, [("4", 15.0), ("1", 5.0), ("3", 2.0), ("2", 0.0)]);
    }

    #[test]
    fn a_page_fits_its_width() {
        let counted = |addresses: [[u64; 3]; 2], deliveries: [u64; 2]| {
            let keys = ["Morders", "Mnews/from/everywhere/and/of/all/kinds"];
            let address = |(key, [ingress, egress, transit]): (&str, [u64; 3])| {
                json!({
                    "identity": key, "key": key, "deliveriesIngress": ingress,
                    "deliveriesEgress": egress, "deliveriesTransit": transit,
                })
            };
            let link = |(key, deliveries): (&str, u64)| {
                json!({
                    "identity": key.len().to_string(), "connectionId": "3", "linkDir": "in",
                    "owningAddr": key, "deliveryCount": deliveries, "unsettledCount": 2,
                })
            };
            let rows = |rows: Vec<Json>| Rows {
                names: Vec::new(),
                rows: rows
                    .iter()
                    .filter_map(|row| row.as_object().cloned())
                    .collect(),
            };
            let addresses = keys.into_iter().zip(addresses).map(address).collect();
            let links = keys.into_iter().zip(deliveries).map(link).collect();
            (rows(addresses), rows(links))
        };
        let before = counted([[0, 0, 0], [5, 5, 5]], [1, 1]);
        let now = counted([[10, 20, 0], [2005, 1005, 5]], [1, 4001]);
        let addresses = rates(&before.0, &now.0, ADDRESS_COUNTERS, 2.0);
        let links = rates(&before.1, &now.1, LINK_COUNTERS, 2.0);
        for width in [40, 80] {
            let style = Style {
                width: Some(width),
                colour: false,
            };
            let page = page(&addresses, &links, 20, style);
            check(&format!("top.{width}.txt"), &page);
        }
        let document = format!("{:#}\n", document(&addresses, &links));
        check("top.json", &document);
    }
}
