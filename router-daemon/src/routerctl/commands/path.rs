//! `path`: which routers a message crosses to each router that has consumers of an address.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::Context;
use crate::client::Agent;
use crate::failure::{Failure, Outcome};
use crate::table::{Cell, Style, Table};
use crate::value::{Row, text};

pub(crate) async fn run(context: &mut Context, address: &str) -> Outcome {
    let agent = context.agent.clone();
    let routers = context.client.query(&agent, "router", &[]).await?;
    let start = routers.rows.first().map(|row| field(row, "id"));
    let start = start.unwrap_or_default();
    let mut survey = Survey::default();
    survey.learn(&start, Place::ask(context, &agent, address).await?);
    let mut paths = loop {
        match survey.paths(&start) {
            Ok(paths) => break paths,
            Err(Unknown(router)) => {
                let agent = Agent::Router(router.clone());
                let place = Place::ask(context, &agent, address).await?;
                survey.learn(&router, place);
            }
        }
    };
    show(context, address, &start, &mut paths)
}

/// The routers that are crossed, the first one included, and what it costs to get to each.
#[derive(Debug, PartialEq)]
struct Path {
    hops: Vec<(String, i64)>,
    arrives: bool,
}

/// What one router knows of the address and of the network.
#[derive(Debug, Default)]
struct Place {
    /// Consumers of its own: clients, programs, services.
    own: i64,
    /// Edge routers that it sends to.
    edges: BTreeSet<String>,
    /// Interior routers that are said to have consumers.
    remotes: BTreeSet<String>,
    /// If it is an edge router, the interior router that it is connected to.
    uplink: Option<String>,
    nodes: Vec<Row>,
}

/// What routers know, as far as they have been asked.
#[derive(Default)]
struct Survey {
    places: BTreeMap<String, Place>,
}

/// An interior router that is to be asked first.
#[derive(Debug, PartialEq)]
struct Unknown(String);

impl Place {
    async fn ask(context: &mut Context, agent: &Agent, address: &str) -> Outcome<Self> {
        let mut tables = Vec::new();
        for kind in [
            "router",
            "router.address",
            "router.link",
            "connection",
            "router.node",
        ] {
            tables.push(context.client.query(agent, kind, &[]).await?.rows);
        }
        let [routers, addresses, links, connections, nodes] = &tables[..] else {
            return Ok(Self::default());
        };
        let is_edge = routers.first().map(|row| field(row, "mode")).as_deref() == Some("edge");
        let place = Self::of(address, is_edge, [addresses, links, connections]);
        Ok(Self {
            nodes: nodes.clone(),
            ..place
        })
    }

    fn of(address: &str, is_edge: bool, tables: [&[Row]; 3]) -> Self {
        let [addresses, links, connections] = tables;
        let of_it = || addresses.iter().filter(|row| is_of(row, "key", address));
        let count = |row: &Row| row.get("subscriberCount").and_then(Json::as_i64);
        let mut place = Self {
            own: of_it().filter_map(count).sum(),
            ..Self::default()
        };
        let remotes = of_it().filter_map(|row| row.get("remoteHostRouters"));
        let remotes = remotes.filter_map(Json::as_array).flatten();
        place.remotes = remotes.map(text).collect();
        let connection = |id: &str| connections.iter().find(|row| field(row, "identity") == id);
        for link in links.iter().filter(|row| is_of(row, "owningAddr", address)) {
            if field(link, "linkDir") != "out" {
                continue;
            }
            let Some(connection) = connection(&field(link, "connectionId")) else {
                continue;
            };
            match &*field(connection, "role") {
                // What an edge router sends up is for consumers elsewhere.
                "edge" if is_edge => {}
                "edge" | "inter-edge" => {
                    place.edges.insert(field(connection, "container"));
                }
                _ => continue,
            }
            place.own -= 1;
        }
        let mut uplinks = connections
            .iter()
            .filter(|row| field(row, "role") == "edge");
        let active = uplinks.find(|row| row.get("active") != Some(&Json::Bool(false)));
        let active = active.filter(|_| is_edge);
        place.uplink = active.map(|row| field(row, "container"));
        place
    }

    /// The steps that lead from a router to consumers without crossing an interior router.
    fn ends(&self, router: &str) -> Vec<Vec<(String, i64)>> {
        let here = (self.own > 0).then(Vec::new);
        let edges = self.edges.iter().filter(|edge| *edge != router);
        // An edge router is as far away as the router that it is connected to.
        let edges = edges.map(|edge| vec![(edge.clone(), 0)]);
        here.into_iter().chain(edges).collect()
    }
}

impl Survey {
    fn learn(&mut self, router: &str, place: Place) {
        self.places.insert(router.to_owned(), place);
    }

    fn place(&self, router: &str) -> Result<&Place, Unknown> {
        let place = self.places.get(router);
        place.ok_or_else(|| Unknown(router.to_owned()))
    }

    /// The paths from a router to all that have consumers.
    fn paths(&self, start: &str) -> Result<Vec<Path>, Unknown> {
        let place = self.place(start)?;
        let Some(uplink) = &place.uplink else {
            return self.paths_from(vec![(start.to_owned(), 0)]);
        };
        let begin = vec![(start.to_owned(), 0)];
        let mut paths: Vec<_> = lead_on(&begin, place.ends(start)).collect();
        let up = [begin, vec![(uplink.clone(), 0)]].concat();
        // What comes from an edge router does not go back to it, nor to those it is connected to.
        let is_back = |path: &Path| {
            let end = path.hops.last().map(|(router, _)| router);
            end.is_some_and(|end| end == start || place.edges.contains(end))
        };
        let beyond = self.paths_from(up)?.into_iter();
        paths.extend(beyond.filter(|path| !is_back(path)));
        Ok(paths)
    }

    /// The paths that begin with these steps, of which the last is an interior router.
    fn paths_from(&self, begin: Vec<(String, i64)>) -> Result<Vec<Path>, Unknown> {
        let last = begin.last().map(|(router, _)| router.clone());
        let first = last.unwrap_or_default();
        let place = self.place(&first)?;
        let mut paths: Vec<_> = lead_on(&begin, place.ends(&first)).collect();
        for remote in &place.remotes {
            let path = self.path(begin.clone(), remote)?;
            if !path.arrives {
                paths.push(path);
                continue;
            }
            let mut ends = self.place(remote)?.ends(remote);
            if ends.is_empty() {
                // It has been told of that there are some, and they may have just gone.
                ends.push(Vec::new());
            }
            paths.extend(lead_on(&path.hops, ends));
        }
        Ok(paths)
    }

    /// Follows next hops, each by the rows of the router that the message has got to.
    fn path(&self, mut hops: Vec<(String, i64)>, end: &str) -> Result<Path, Unknown> {
        loop {
            let (at, so_far) = hops.last().cloned().unwrap_or_default();
            let arrives = at == end;
            let next = match arrives {
                true => None,
                false => next_hop(&self.place(&at)?.nodes, end),
            };
            // Routers that change their minds just now may send us round.
            let next = next.filter(|(next, _)| hops.iter().all(|(router, _)| router != next));
            let Some((next, cost)) = next else {
                return Ok(Path { hops, arrives });
            };
            hops.push((next, so_far + cost));
        }
    }
}

/// The paths that begin with these steps and go on with each of those, of a cost of their own.
fn lead_on(begin: &[(String, i64)], ends: Vec<Vec<(String, i64)>>) -> impl Iterator<Item = Path> {
    let so_far = begin.last().map_or(0, |(_, cost)| *cost);
    ends.into_iter().map(move |end| {
        let end = end
            .into_iter()
            .map(|(router, cost)| (router, so_far + cost));
        Path {
            hops: begin.iter().cloned().chain(end).collect(),
            arrives: true,
        }
    })
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
fn is_of(row: &Row, name: &str, address: &str) -> bool {
    let key = field(row, name);
    let mut characters = key.chars();
    characters.next() == Some('M') && characters.as_str() == address
}

/// The nearest first.
fn sort(paths: &mut [Path]) {
    paths.sort_by_key(|path| (!path.arrives, path.hops.last().map_or(0, |(_, cost)| *cost)));
}

fn show(context: &Context, address: &str, start: &str, paths: &mut [Path]) -> Outcome {
    sort(paths);
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
    context.output.text(&render(paths, context.output.style))
}

fn render(paths: &[Path], style: Style) -> String {
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
    table.render(style)
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

    fn rows(rows: Json) -> Vec<Row> {
        let rows = rows.as_array().expect("a list").iter();
        rows.filter_map(|row| row.as_object().cloned()).collect()
    }

    /// A router's rows, with links to `peers` by connections of a role.
    fn place(subscribers: i64, remotes: &[&str], peers: &[(&str, &str)], is_edge: bool) -> Place {
        let addresses = rows(json!([
            {"key": "Mother", "subscriberCount": 9, "remoteHostRouters": ["Z"]},
            {"key": "Ma", "subscriberCount": subscribers, "remoteHostRouters": remotes},
        ]));
        let links = (0..).zip(peers).map(|(number, _)| {
            json!({"owningAddr": "Ma", "linkDir": "out", "connectionId": number.to_string()})
        });
        let others = json!({"owningAddr": "Ma", "linkDir": "in", "connectionId": "0"});
        let links = rows(links.chain([others]).collect());
        let connections = (0..).zip(peers).map(|(number, (role, container))| {
            let id = number.to_string();
            json!({"identity": id, "role": role, "container": container, "active": true})
        });
        let connections = rows(connections.collect());
        Place::of("a", is_edge, [&addresses, &links, &connections])
    }

    fn with_nodes(place: Place, nodes: &[(&str, Json, i64)]) -> Place {
        let nodes = nodes
            .iter()
            .map(|(id, hop, cost)| json!({"id": id, "nextHop": hop, "cost": cost}));
        Place {
            nodes: rows(nodes.collect()),
            ..place
        }
    }

    /// E1 and E2 at A, A – B – C, E3 and E4 at C; E1 and E2 are connected to each other.
    fn survey() -> Survey {
        let mut survey = Survey::default();
        let edge = "edge";
        let e1 = place(
            3,
            &[],
            &[(edge, "A"), ("inter-edge", "E2"), ("normal", "client")],
            true,
        );
        let a = place(2, &["C"], &[(edge, "E1"), (edge, "E2")], false);
        let b = place(0, &["A", "C"], &[], false);
        let c = place(3, &["A"], &[(edge, "E3"), (edge, "E4")], false);
        survey.learn("E1", e1);
        let (b_next, c_next) = (json!("B"), Json::Null);
        survey.learn(
            "A",
            with_nodes(a, &[("B", Json::Null, 2), ("C", b_next.clone(), 7)]),
        );
        survey.learn(
            "B",
            with_nodes(b, &[("A", Json::Null, 2), ("C", c_next, 5)]),
        );
        survey.learn(
            "C",
            with_nodes(c, &[("B", Json::Null, 5), ("A", b_next, 7)]),
        );
        survey
    }

    #[test]
    fn paths_end_at_edge_routers_that_have_the_consumers() {
        let survey = survey();
        for start in ["E1", "A", "C"] {
            let mut paths = survey.paths(start).unwrap();
            sort(&mut paths);
            let style = Style {
                width: Some(80),
                colour: false,
            };
            crate::report::golden::check(&format!("path.{start}.txt"), &render(&paths, style));
        }
    }

    #[test]
    fn routers_on_the_way_are_asked_one_by_one() {
        let mut all = survey();
        let mut known = Survey::default();
        let mut asked = Vec::new();
        while let Err(Unknown(router)) = known.paths("E1") {
            known.learn(&router, all.places.remove(&router).expect("it is there"));
            asked.push(router);
        }
        assert_eq!(asked, ["E1", "A", "B", "C"]);
    }

    #[test]
    fn an_edge_router_by_itself_has_consumers_of_its_own_alone() {
        let mut survey = Survey::default();
        survey.learn("E1", place(1, &[], &[("normal", "client")], true));
        let hops = vec![("E1".to_owned(), 0)];
        let arrives = true;
        assert_eq!(survey.paths("E1"), Ok(vec![Path { hops, arrives }]));
    }

    #[test]
    fn there_is_no_way_to_what_is_lost_or_unknown() {
        for end in ["A", "D", "E"] {
            assert_eq!(next_hop(&nodes(), end), None, "{end}");
        }
    }
}
