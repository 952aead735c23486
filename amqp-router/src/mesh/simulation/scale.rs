//! What many routers and addresses cost each router.
//!
//! The table of `README.md` comes from
//!
//! ```sh
//! SIM_SCALE=500x10000 cargo test --release -p amqp-router mesh::simulation::scale -- --nocapture
//! ```

use super::*;

/// A network of so many routers, each with few neighbours, and so many addresses spread over them.
fn measure(routers: usize, addresses: usize) {
    let mut rng = StdRng::seed_from_u64(routers as u64);
    let ways = level(shape(3, routers, &mut rng));
    let memory = resident();
    let mut net = Net::new(routers, &ways, rng);
    report(&mut net, "find each other", |net| net.until_known(0));
    for address in 0..addresses {
        net.serve(
            address % routers,
            &format!("service-{address}/of/some/length"),
        );
    }
    report(&mut net, "learn addresses", |net| {
        net.until_known(addresses)
    });
    report(&mut net, "a quiet minute", |net| {
        net.pass(Duration::from_secs(60))
    });
    let octets = (resident() - memory) / routers as u64;
    net.cut(0);
    report(&mut net, "a way is cut", |net| net.until_known(addresses));
    net.mend(0);
    report(&mut net, "it comes back", |net| net.until_known(addresses));
    net.serve(0, "one-more");
    report(&mut net, "one more address", |net| {
        net.until_known(addresses + 1)
    });
    println!(
        "{routers} routers, {addresses} addresses: at most {} KiB each",
        octets / 1024
    );
}

/// What each router spends until something is done, on the average.
fn report(net: &mut Net, what: &str, act: impl FnOnce(&mut Net)) {
    let (at, sent, octets, busy) = (net.at, net.sent, net.octets, net.busy);
    act(net);
    let each = |total: u64| total as f64 / net.routers.len() as f64;
    println!(
        "{what:16} {:>9} virtual, each router: {:8.1} messages, {:8.1} KiB received, {:8.2} ms busy",
        format!("{:.2?}", net.at - at),
        each(net.sent - sent),
        each(net.octets - octets) / 1024.0,
        each((net.busy - busy).as_micros() as u64) / 1000.0,
    );
}

impl Net {
    /// Lets time pass until every router knows the costs to all, and so many addresses.
    fn until_known(&mut self, addresses: usize) {
        let costs = self.true_costs();
        let end = self.at + Duration::from_secs(60);
        while !self.know(&costs, addresses) {
            assert!(self.at < end, "a minute is not enough");
            self.pass(Duration::from_millis(100));
        }
    }

    fn know(&self, costs: &[Vec<Option<u32>>], addresses: usize) -> bool {
        self.routers.iter().zip(costs).all(|(router, costs)| {
            let mut known = vec![None; self.routers.len()];
            for (_, route) in router.routes.iter() {
                known[self.number(&route.id)] = route.next_hop.map(|hop| hop.cost);
            }
            known == *costs && router.remote.len() + router.local.len() == addresses
        })
    }
}

/// Memory of this process in octets.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

#[test]
fn a_hundred_routers_and_a_thousand_addresses_find_each_other() {
    let asked = std::env::var("SIM_SCALE").unwrap_or_default();
    match asked.split_once('x') {
        Some((routers, addresses)) => measure(
            routers.parse().expect("SIM_SCALE is like 500x10000"),
            addresses.parse().expect("SIM_SCALE is like 500x10000"),
        ),
        None => measure(100, 1000),
    }
}
