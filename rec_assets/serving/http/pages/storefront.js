// The demo shop: four lists of recommendations, a basket, and a panel with events and candidate sources.

import { picture } from "../widget.js";

const byId = (id) => document.getElementById(id);
const lists = ["for-you", "buy-again", "complements", "similar"].map(byId);
const basket = new Map();
let selected = null;
const drawing = "/storefront/drawings/{category}";

const setup = await (await fetch("setup.json")).json();

for (const customer of setup.customers) byId("customer").append(new Option(customer, customer));
byId("customer").append(new Option("new visitor", ""));
byId("customer").value = new URLSearchParams(location.search).get("customer") ?? setup.customers[0] ?? "";

function show() {
  for (const list of lists) {
    list.setAttribute("drawing", drawing);
    list.setAttribute("api", setup.api);
    list.setAttribute("key", setup.key);
    list.setAttribute("customer", byId("customer").value);
    list.setAttribute("token", setup.tokens[byId("customer").value] ?? "");
    list.setAttribute("k", 8);
  }
  for (const list of [byId("complements"), byId("similar")]) {
    list.hidden = !selected;
    if (selected) list.setAttribute("product", selected.product_id);
    else list.removeAttribute("product");
  }
  byId("buy-again").hidden = !byId("customer").value;
}

function open(item) {
  selected = item;
  byId("product").hidden = false;
  byId("product-name").textContent = item.title;
  byId("product-picture").replaceChildren(picture(item, drawing));
  byId("product-about").textContent = [item.brand, item.category, item.reason].filter(Boolean).join(" · ");
  byId("product-price").textContent = item.price === null ? "" : item.price.toFixed(2);
  const attributes = Object.entries(item.attributes);
  byId("product-attributes").replaceChildren(...attributes.flatMap(([name, value]) => {
    const term = document.createElement("dt"), description = document.createElement("dd");
    term.textContent = name;
    description.textContent = [value].flat().join(", ");
    return [term, description];
  }));
  byId("product-name").focus();
  show();
}

async function recordEvent(type, item, more = {}) {
  await byId("for-you").record(type, item.product_id, more);
  log(type, item);
  for (const list of [byId("for-you"), byId("buy-again")]) list.refresh();
}

function log(type, item) {
  const entry = document.createElement("li");
  entry.textContent = `${new Date().toLocaleTimeString()} ${type}: ${item.title}`;
  byId("events").prepend(entry);
}

function showBasket() {
  const count = [...basket.values()].reduce((sum, { pieces }) => sum + pieces, 0);
  byId("basket").textContent = count ? `Basket: ${count} item${count > 1 ? "s" : ""}` : "Your basket is empty";
  byId("buy").disabled = !count;
}

byId("customer").addEventListener("change", () => {
  basket.clear();
  selected = null;
  byId("product").hidden = true;
  showBasket();
  show();
});

document.addEventListener("recommendation-click", (event) => {
  event.preventDefault(); // the demo shop has no product pages
  log("click", event.detail);
  open(event.detail);
  event.recorded.then(() => [byId("for-you"), byId("buy-again")].forEach((list) => list.refresh()));
});

byId("add").addEventListener("click", () => {
  basket.set(selected.product_id, { item: selected, pieces: (basket.get(selected.product_id)?.pieces ?? 0) + 1 });
  showBasket();
  recordEvent("cart", selected);
});

byId("buy").addEventListener("click", async () => {
  const order = `demo-${Date.now()}`;
  const bought = [...basket.values()];
  basket.clear();
  showBasket();
  for (const { item, pieces } of bought) {
    await recordEvent("purchase", item, { order_id: order, quantity: pieces, ...(item.price !== null && { unit_price: item.price }) });
  }
});

const shown = new Map();
document.addEventListener("recommendations-shown", (event) => {
  byId("outage").hidden = true;
  shown.set(event.target.getAttribute("heading"), event.detail);
  const table = document.createElement("table");
  table.innerHTML = "<thead><tr><th>list</th><th>product</th><th>source</th></tr></thead>";
  const body = table.createTBody();
  for (const [heading, response] of shown) {
    for (const item of response.items) {
      const row = body.insertRow();
      for (const text of [heading, item.title, item.source]) row.insertCell().textContent = text;
    }
  }
  byId("sources").replaceChildren(table);
});

setInterval(async () => {
  const isLive = await fetch(`${setup.api}/health/live`).then((response) => response.ok, () => false);
  byId("outage").hidden = isLive;
}, 5000);

showBasket();
show();
