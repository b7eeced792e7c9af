// The demo shop: four shelves, a basket, and a panel that shows what goes on behind them.

const one = (id) => document.getElementById(id);
const shelves = ["for-you", "buy-again", "goes-with", "similar"].map(one);
const basket = new Map();
let chosen = null;

const setup = await (await fetch("setup.json")).json();

for (const customer of setup.customers) one("customer").append(new Option(customer, customer));
one("customer").append(new Option("someone new", ""));
one("customer").value = new URLSearchParams(location.search).get("customer") ?? setup.customers[0] ?? "";

function show() {
  for (const shelf of shelves) {
    shelf.setAttribute("api", setup.api);
    shelf.setAttribute("key", setup.key);
    shelf.setAttribute("customer", one("customer").value);
    shelf.setAttribute("token", setup.tokens[one("customer").value] ?? "");
    shelf.setAttribute("k", 8);
  }
  for (const shelf of [one("goes-with"), one("similar")]) {
    shelf.hidden = !chosen;
    if (chosen) shelf.setAttribute("product", chosen.product_id);
    else shelf.removeAttribute("product");
  }
  one("buy-again").hidden = !one("customer").value;
}

function open(item) {
  chosen = item;
  one("product").hidden = false;
  one("product-name").textContent = item.title;
  one("product-about").textContent = [item.category, item.price === null ? "" : item.price.toFixed(2), item.reason]
    .filter(Boolean).join(" · ");
  one("product-name").focus();
  show();
}

async function tell(type, item, more = {}) {
  await one("for-you").record(type, item.product_id, more);
  log(type, item);
  for (const shelf of [one("for-you"), one("buy-again")]) shelf.refresh();
}

function log(type, item) {
  const entry = document.createElement("li");
  entry.textContent = `${new Date().toLocaleTimeString()} ${type}: ${item.title}`;
  one("events").prepend(entry);
}

function showBasket() {
  const count = [...basket.values()].reduce((sum, { pieces }) => sum + pieces, 0);
  one("basket").textContent = count ? `Basket: ${count} item${count > 1 ? "s" : ""}` : "Your basket is empty";
  one("buy").disabled = !count;
}

one("customer").addEventListener("change", () => {
  basket.clear();
  chosen = null;
  one("product").hidden = true;
  showBasket();
  show();
});

document.addEventListener("recommendation-click", (event) => {
  event.preventDefault(); // there are no product pages here
  log("click", event.detail);
  open(event.detail);
  event.recorded.then(() => [one("for-you"), one("buy-again")].forEach((shelf) => shelf.refresh()));
});

one("add").addEventListener("click", () => {
  basket.set(chosen.product_id, { item: chosen, pieces: (basket.get(chosen.product_id)?.pieces ?? 0) + 1 });
  showBasket();
  tell("cart", chosen);
});

one("buy").addEventListener("click", async () => {
  const order = `demo-${Date.now()}`;
  const bought = [...basket.values()];
  basket.clear();
  showBasket();
  for (const { item, pieces } of bought) {
    await tell("purchase", item, { order_id: order, quantity: pieces, ...(item.price !== null && { unit_price: item.price }) });
  }
});

const shown = new Map();
document.addEventListener("recommendations-shown", (event) => {
  one("outage").hidden = true;
  shown.set(event.target.getAttribute("heading"), event.detail);
  const table = document.createElement("table");
  table.innerHTML = "<thead><tr><th>shelf</th><th>product</th><th>source</th></tr></thead>";
  const body = table.createTBody();
  for (const [shelf, answer] of shown) {
    for (const item of answer.items) {
      const row = body.insertRow();
      for (const text of [shelf, item.title, item.source]) row.insertCell().textContent = text;
    }
  }
  one("sources").replaceChildren(table);
});

setInterval(async () => {
  const answers = await fetch(`${setup.api}/health/live`).then((answer) => answer.ok, () => false);
  one("outage").hidden = answers;
}, 5000);

showBasket();
show();
