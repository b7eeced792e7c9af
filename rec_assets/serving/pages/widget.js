// <product-recommendations>: a shelf of recommendations for a shop's page. No dependencies.
//
// Attributes: api (address of the API), key (public; scopes read and events), customer and token (signed in), session, mode, k, segment, heading,
// product and kind (similar, complements or upsell: what goes with a product), link ("/product/{id}"), currency.
// It sends impressions when an item has been seen and clicks when one is chosen. If the API doesn't answer, it hides.
// Events that bubble: `recommendations-shown` and `recommendation-click` (cancel it to keep the browser where it is).

const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
  :host { display: block; font: inherit; color: inherit; }
  :host([hidden]), section[hidden] { display: none; }
  h2 { font-size: 1.15em; margin: 0 0 .5em; }
  ul { display: flex; gap: .75em; list-style: none; margin: 0; padding: 4px; overflow-x: auto; scroll-snap-type: x proximity; }
  li { flex: 0 0 var(--card-width, 11em); scroll-snap-align: start; display: flex; }
  a { display: flex; flex-direction: column; gap: .3em; width: 100%; padding: .75em; border-radius: 8px; box-sizing: border-box;
      border: 1px solid var(--card-border, #c9c9d1); background: var(--card-background, #fff); color: var(--card-text, #1c1c28);
      text-decoration: none; transition: transform .15s; }
  a:hover { transform: translateY(-2px); }
  a:focus-visible { outline: 3px solid var(--focus, #1a56db); outline-offset: 1px; }
  .name { font-weight: 600; overflow-wrap: anywhere; }
  .why { font-size: .85em; color: var(--card-quiet, #55555f); margin-top: auto; }
  @media (prefers-reduced-motion: reduce) { a { transition: none; } a:hover { transform: none; } }
`);
const SEEN_MS = 500;
const VISIT = `s-${Date.now()}-${Math.random().toString(36).slice(2)}`;

class ProductRecommendations extends HTMLElement {
  static observedAttributes = ["api", "key", "customer", "token", "session", "mode", "k", "segment", "product", "kind", "heading"];

  #queue = [];
  #seen = new Set();
  #asked = 0;
  #watcher = null;
  #leave = () => document.visibilityState === "hidden" && this.#flush();

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [STYLE]; // which a page's Content-Security-Policy lets pass, unlike a <style>
    root.append(this.#make("section", { hidden: "", "aria-labelledby": "heading" }));
  }

  connectedCallback() {
    document.addEventListener("visibilitychange", this.#leave);
    this.#later();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.#leave);
    this.#watcher?.disconnect();
    this.#flush();
  }

  attributeChangedCallback(name, before, now) {
    if (this.isConnected && before !== now) this.#later();
  }

  /** Ask again, and show the answer. */
  async refresh() {
    const asked = ++this.#asked;
    let answer = null;
    try {
      const response = await this.#ask();
      if (response.ok) answer = await response.json();
    } catch {
      // The shop's page goes on without us.
    }
    if (asked === this.#asked && this.isConnected) this.#show(answer);
  }

  /** Send an event about a product, such as `cart` or `purchase`. */
  record(type, productId, more = {}) {
    this.#queue.push({
      event_id: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(36).slice(2)}`,
      type,
      product_id: productId,
      session_id: this.#session(),
      time: new Date().toISOString(),
      ...(this.getAttribute("customer") && { customer_id: this.getAttribute("customer") }),
      ...more,
    });
    return this.#flush();
  }

  #later() {
    if (!this.hasAttribute("api")) return; // not set up yet
    const asked = ++this.#asked;
    queueMicrotask(() => asked === this.#asked && this.refresh()); // several attributes change at once
  }

  #session() {
    if (this.getAttribute("session")) return this.getAttribute("session");
    try {
      const known = sessionStorage.getItem("rec_session") ?? VISIT;
      sessionStorage.setItem("rec_session", known);
      return known;
    } catch {
      return VISIT; // storage is switched off
    }
  }

  #ask() {
    const of = (name) => this.getAttribute(name) || "";
    const k = Number(of("k") || 10);
    if (of("product")) return this.#fetch(`products/${encodeURIComponent(of("product"))}/${of("kind") || "similar"}?k=${k}`);
    const question = { k, session_id: this.#session() };
    for (const name of ["mode", "segment"]) if (of(name)) question[name] = of(name);
    if (of("customer")) question.customer_id = of("customer");
    return this.#fetch("recommendations", question);
  }

  #fetch(path, body) {
    const headers = { "X-API-Key": this.getAttribute("key") ?? "" };
    if (this.getAttribute("token")) headers["X-Customer-Token"] = this.getAttribute("token");
    if (body) headers["Content-Type"] = "application/json";
    const sent = body && { method: "POST", body: JSON.stringify(body), keepalive: true };
    return fetch(`${this.getAttribute("api") || ""}/v1/${path}`, { headers, ...sent });
  }

  #show(answer) {
    const section = this.shadowRoot.querySelector("section");
    this.#watcher?.disconnect();
    section.hidden = !answer?.items?.length;
    section.replaceChildren();
    if (section.hidden) return;
    const heading = this.#make("h2", { id: "heading" }, this.getAttribute("heading") || "Recommended for you");
    const list = this.#make("ul", { role: "list" });
    list.append(...answer.items.map((item) => this.#card(item, answer)));
    section.append(heading, list);
    this.#watch(list, answer);
    this.dispatchEvent(new CustomEvent("recommendations-shown", { bubbles: true, composed: true, detail: answer }));
  }

  #card(item, answer) {
    const id = encodeURIComponent(item.product_id);
    const card = this.#make("a", { href: (this.getAttribute("link") || "#product={id}").replace("{id}", id) });
    card.append(this.#make("span", { class: "name" }, item.title || item.product_id));
    if (item.price !== null) card.append(this.#make("span", { class: "price" }, this.#price(item.price)));
    card.append(this.#make("span", { class: "why" }, item.reason));
    card.addEventListener("click", (event) => {
      const recorded = this.record("click", item.product_id, { recommendation_id: answer.recommendation_id, position: item.rank });
      const chosen = new CustomEvent("recommendation-click", { bubbles: true, composed: true, cancelable: true, detail: item });
      chosen.recorded = recorded; // a promise: what is asked after it counts the click
      if (!this.dispatchEvent(chosen)) event.preventDefault();
    });
    const entry = this.#make("li");
    entry.append(card);
    entry.item = item;
    return entry;
  }

  #price(price) {
    const currency = this.getAttribute("currency") || "USD";
    return new Intl.NumberFormat(document.documentElement.lang || undefined, { style: "currency", currency }).format(price);
  }

  #watch(list, answer) {
    const waiting = new Map();
    this.#watcher = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) {
        clearTimeout(waiting.get(target));
        const key = `${answer.recommendation_id} ${target.item.product_id}`;
        if (!isIntersecting || this.#seen.has(key)) continue;
        waiting.set(target, setTimeout(() => {
          this.#seen.add(key);
          const { product_id: product, rank: position } = target.item;
          this.record("impression", product, { recommendation_id: answer.recommendation_id, position });
        }, SEEN_MS));
      }
    }, { threshold: 0.5 });
    for (const entry of list.children) this.#watcher.observe(entry);
  }

  async #flush() {
    await null; // what happens in one moment goes in one request
    const events = this.#queue.splice(0, 100);
    if (!events.length) return;
    try {
      const response = await this.#fetch("events", { events });
      if (response.status >= 500 || response.status === 429) throw new Error("later");
    } catch {
      // Sent again with the next events: each has an id, so none counts twice. Only so many wait.
      this.#queue = [...events, ...this.#queue].slice(-100);
    }
  }

  #make(name, attributes = {}, text = "") {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text) element.textContent = text;
    return element;
  }
}

customElements.define("product-recommendations", ProductRecommendations);
