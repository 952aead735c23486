//! `path`: which routers a message crosses to each router that has consumers of an address.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::Context;
use crate::client::Agent;
use crate::failure::{Failure, Outcome};
use crate::table::{Cell, Table};
use crate::value::{Row, text};

pub(crate) async fn run(context: &mut Context, address: &str) -> Outcome {
    let agent = context.agent.clone();
    let routers = context.client.query(&agent, "router", &[]).await?;
    let start = routers.rows.first().map(|row| field(row, "id"));
    let start = start.unwrap_or_default();
    let addresses = context.client.query(&agent, "router.address", &[]).await?;
    let rows = addresses.rows.iter().filter(|row| is_of(row, address));
    let rows: Vec<&Row> = rows.collect();
    let mut topology = Topology::default();
    let mut paths = Vec::new();
    let count = |row: &&Row| {
        row.get("subscriberCount")
            .and_then(Json::as_i64)
            .unwrap_or(0)
    };
    if rows.iter().map(count).sum::<i64>() > 0 {
        paths.push(Path {
            hops: vec![(start.clone(), 0)],
            arrives: true,
        });
    }
    let remotes = rows.iter().filter_map(|row| row.get("remoteHostRouters"));
    let remotes = remotes.filter_map(Json::as_array).flatten().map(text);
    for remote in remotes.collect::<std::collections::BTreeSet<_>>() {
        paths.push(topology.path(context, &start, &remote).await?);
    }
    show(context, address, &start, &mut paths)
}

/// The routers that are crossed, the first one included, and what it costs to get to each.
struct Path {
    hops: Vec<(String, i64)>,
    arrives: bool,
}

/// The nodes as each router on the way sees them, asked for once.
#[derive(Default)]
struct Topology {
    seen_by: HashMap<String, Vec<Row>>,
}

impl Topology {
    /// Follows next hops, each by the rows of the router that the message has got to.
    async fn path(&mut self, context: &mut Context, start: &str, end: &str) -> Outcome<Path> {
        let mut hops = vec![(start.to_owned(), 0)];
        let mut at = start.to_owned();
        while at != end {
            let nodes = self.nodes(context, start, &at).await?;
            let Some((next, cost)) = next_hop(nodes, end) else {
                return Ok(Path {
                    hops,
                    arrives: false,
                });
            };
            // Routers that change their minds just now may send us round.
            if hops.iter().any(|(router, _)| *router == next) {
                return Ok(Path {
                    hops,
                    arrives: false,
                });
            }
            let so_far = hops.last().map_or(0, |(_, cost)| *cost);
            hops.push((next.clone(), so_far + cost));
            at = next;
        }
        Ok(Path {
            hops,
            arrives: true,
        })
    }

    async fn nodes(&mut self, context: &mut Context, start: &str, at: &str) -> Outcome<&[Row]> {
        if !self.seen_by.contains_key(at) {
            let agent = match at == start {
                true => context.agent.clone(),
                false => Agent::Router(at.to_owned()),
            };
            let found = context.client.query(&agent, "router.node", &[]).await?;
            self.seen_by.insert(at.to_owned(), found.rows);
        }
        Ok(&self.seen_by[at])
    }
}

/// Where a router sends what is for `end`, and the cost of that one step.
fn next_hop(nodes: &[Row], end: &str) -> Option<(String, i64)> {
    let node = |id: &str| nodes.iter().find(|row| field(row, "id") == id);
    let cost = |row: &Row| row.get("cost").and_then(Json::as_i64);
    let to_end = node(end)?;
    cost(to_end)?;
    match field(to_end, "nextHop") {
        // A neighbour needs none.
        hop if hop.is_empty() || hop == end => Some((end.to_owned(), cost(to_end)?)),
        hop if hop == "(self)" => None,
        hop => {
            let step = cost(node(&hop)?)?;
            Some((hop, step))
        }
    }
}

/// Whether a row is of the address as clients know it: keys begin with the letter of a class.
fn is_of(row: &Row, address: &str) -> bool {
    let key = field(row, "key");
    let mut characters = key.chars();
    characters.next() == Some('M') && characters.as_str() == address
}

fn show(context: &Context, address: &str, start: &str, paths: &mut [Path]) -> Outcome {
    paths.sort_by_key(|path| (!path.arrives, path.hops.last().map_or(0, |(_, cost)| *cost)));
    if context.output.json {
        let hop = |(router, cost): &(String, i64)| json!({"router": router, "cost": cost});
        let path = |path: &Path| {
            let hops: Vec<Json> = path.hops.iter().map(hop).collect();
            json!({"arrives": path.arrives, "hops": hops})
        };
        let paths: Vec<Json> = paths.iter().map(path).collect();
        let document = json!({"address": address, "from": start, "paths": paths});
        context.output.document(&document)?;
    }
    if paths.is_empty() {
        return Err(Failure::Refused(format!(
            "nobody receives from '{address}'"
        )));
    }
    if context.output.json {
        return Ok(());
    }
    let mut table = Table::new(["consumers at", "cost", "routers crossed"]);
    for path in paths {
        let routers: Vec<&str> = path
            .hops
            .iter()
            .map(|(router, _)| router.as_str())
            .collect();
        let cost = path.hops.last().map_or(0, |(_, cost)| *cost).to_string();
        let (end, lost) = match path.arrives {
            true => (routers.last().copied().unwrap_or_default(), ""),
            false => ("unreachable", " → ?"),
        };
        let way = format!("{}{lost}", routers.join(" → "));
        table.push(vec![Cell::text(end), Cell::number(cost), Cell::text(way)]);
    }
    context.output.text(&table.render(context.output.style))
}

fn field(row: &Row, name: &str) -> String {
    row.get(name).map(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Row> {
        let rows = json!([
            {"id": "A", "nextHop": "(self)", "cost": null},
            {"id": "B", "nextHop": null, "cost": 2},
            {"id": "C", "nextHop": "B", "cost": 7},
            {"id": "D", "nextHop": null, "cost": null},
        ]);
        let rows = rows.as_array().unwrap().iter();
        rows.filter_map(|row| row.as_object().cloned()).collect()
    }

    #[test]
    fn a_step_costs_what_the_next_router_is_away() {
        assert_eq!(next_hop(&nodes(), "B"), Some(("B".into(), 2)));
        assert_eq!(next_hop(&nodes(), "C"), Some(("B".into(), 2)));
    }

    #[test]
    fn there_is_no_way_to_what_is_lost_or_unknown() {
        for end in ["A", "D", "E"] {
            assert_eq!(next_hop(&nodes(), end), None, "{end}");
        }
    }
}
