// <product-recommendations>: a list of recommendations for a shop's page.
//
// Attributes: api (URL), key (public, scopes read and events), customer and token (if signed in), session, mode, k, fallback_category, heading,
// product and kind (similar, complements or upsell), link ("/product/{id}"; default: the catalog's), currency, drawing (URL for products without a
// picture, "/drawings/{category}"). It sends impressions of visible items and clicks. Without the API, it is hidden.
// Bubbling events: `recommendations-shown` and `recommendation-click` (cancel it to stay on the page).

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
  .picture { display: grid; place-items: center; aspect-ratio: 1; border-radius: 6px; overflow: hidden;
      background: hsl(var(--hue) 30% 92%); color: hsl(var(--hue) 30% 32%); font-size: 2.5em; font-weight: 300; }
  .picture:empty::after { content: attr(data-letter) / ""; }
  img { display: block; width: 100%; height: 100%; object-fit: cover; }
  .name { font-weight: 600; overflow-wrap: anywhere; }
  .reason { font-size: .85em; color: var(--card-quiet, #55555f); margin-top: auto; }
  @media (prefers-reduced-motion: reduce) { a { transition: none; } a:hover { transform: none; } }
`);
const VISIBLE_MS = 500;
const SESSION = `s-${Date.now()}-${Math.random().toString(36).slice(2)}`;

/** The picture of a product, or `drawing`. If there is none, or it fails: a letter on a color of the category. */
export function picture(item, drawing) {
  const frame = document.createElement("span"), kind = item.category || item.title || "?";
  const src = item.image ?? drawing?.replace("{category}", encodeURIComponent(kind));
  frame.className = "picture";
  frame.dataset.letter = kind[0];
  frame.style.setProperty("--hue", [...kind].reduce((hue, letter) => (hue * 31 + letter.codePointAt(0)) % 360, 7));
  if (src) {
    const image = new Image(200, 200);
    image.onerror = () => image.remove();
    frame.append(Object.assign(image, { loading: "lazy", alt: item.image ? `Image of ${item.title}` : "", src }));
  }
  return frame;
}

class ProductRecommendations extends HTMLElement {
  static observedAttributes = ["api", "key", "customer", "token", "session", "mode", "k", "fallback_category", "product", "kind", "heading"];

  #queue = [];
  #impressions = new Set();
  #requests = 0;
  #observer = null;
  #onHide = () => document.visibilityState === "hidden" && this.#flush();

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [STYLE]; // allowed by a page's Content-Security-Policy, unlike a <style>
    root.append(this.#make("section", { hidden: "", "aria-labelledby": "heading" }));
  }

  connectedCallback() {
    document.addEventListener("visibilitychange", this.#onHide);
    this.#refreshSoon();
  }

  disconnectedCallback() {
    document.removeEventListener("visibilitychange", this.#onHide);
    this.#observer?.disconnect();
    this.#flush();
  }

  attributeChangedCallback(name, before, now) {
    if (this.isConnected && before !== now) this.#refreshSoon();
  }

  /** Request and show items again. */
  async refresh() {
    const request = ++this.#requests;
    let recommendations = null;
    try {
      const response = await this.#request();
      if (response.ok) recommendations = await response.json();
    } catch {
      // The shop's page works without recommendations.
    }
    if (request === this.#requests && this.isConnected) this.#show(recommendations);
  }

  /** Send an event for a product, such as `cart` or `purchase`. */
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

  #refreshSoon() {
    if (!this.hasAttribute("api")) return; // not configured yet
    const request = ++this.#requests;
    queueMicrotask(() => request === this.#requests && this.refresh()); // one request for several attribute changes
  }

  #session() {
    if (this.getAttribute("session")) return this.getAttribute("session");
    try {
      const known = sessionStorage.getItem("rec_session") ?? SESSION;
      sessionStorage.setItem("rec_session", known);
      return known;
    } catch {
      return SESSION; // storage is disabled
    }
  }

  #request() {
    const get = (name) => this.getAttribute(name) || "";
    const k = Number(get("k") || 10);
    if (get("product")) return this.#fetch(`products/${encodeURIComponent(get("product"))}/${get("kind") || "similar"}?k=${k}`);
    const body = { k, session_id: this.#session() };
    for (const name of ["mode", "fallback_category"]) if (get(name)) body[name] = get(name);
    if (get("customer")) body.customer_id = get("customer");
    return this.#fetch("recommendations", body);
  }

  #fetch(path, body) {
    const headers = { "X-API-Key": this.getAttribute("key") ?? "" };
    if (this.getAttribute("token")) headers["X-Customer-Token"] = this.getAttribute("token");
    if (body) headers["Content-Type"] = "application/json";
    const options = body && { method: "POST", body: JSON.stringify(body), keepalive: true };
    return fetch(`${this.getAttribute("api") || ""}/v1/${path}`, { headers, ...options });
  }

  #show(recommendations) {
    const section = this.shadowRoot.querySelector("section");
    this.#observer?.disconnect();
    section.hidden = !recommendations?.items?.length;
    section.replaceChildren();
    if (section.hidden) return;
    const heading = this.#make("h2", { id: "heading" }, this.getAttribute("heading") || "Recommended for you");
    const list = this.#make("ul", { role: "list" });
    list.append(...recommendations.items.map((item) => this.#card(item, recommendations)));
    section.append(heading, list);
    this.#observe(list, recommendations);
    this.dispatchEvent(new CustomEvent("recommendations-shown", { bubbles: true, composed: true, detail: recommendations }));
  }

  #card(item, recommendations) {
    const id = encodeURIComponent(item.product_id);
    const pattern = this.getAttribute("link");
    const card = this.#make("a", { href: pattern ? pattern.replace("{id}", id) : item.link ?? `#product=${id}` });
    card.append(picture(item, this.getAttribute("drawing")));
    card.append(this.#make("span", { class: "name" }, item.title || item.product_id));
    if (item.price !== null) card.append(this.#make("span", { class: "price" }, this.#price(item.price)));
    card.append(this.#make("span", { class: "reason" }, item.reason));
    card.addEventListener("click", (event) => {
      const recorded = this.record("click", item.product_id, { recommendation_id: recommendations.recommendation_id, position: item.rank });
      const selection = new CustomEvent("recommendation-click", { bubbles: true, composed: true, cancelable: true, detail: item });
      selection.recorded = recorded; // a promise: later requests take the click into account
      if (!this.dispatchEvent(selection)) event.preventDefault();
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

  #observe(list, recommendations) {
    const timers = new Map();
    this.#observer = new IntersectionObserver((changes) => {
      for (const { target, isIntersecting } of changes) {
        clearTimeout(timers.get(target));
        const key = `${recommendations.recommendation_id} ${target.item.product_id}`;
        if (!isIntersecting || this.#impressions.has(key)) continue;
        timers.set(target, setTimeout(() => {
          this.#impressions.add(key);
          const { product_id: product, rank: position } = target.item;
          this.record("impression", product, { recommendation_id: recommendations.recommendation_id, position });
        }, VISIBLE_MS));
      }
    }, { threshold: 0.5 });
    for (const entry of list.children) this.#observer.observe(entry);
  }

  async #flush() {
    await null; // send simultaneous events in one request
    const events = this.#queue.splice(0, 100);
    if (!events.length) return;
    try {
      const response = await this.#fetch("events", { events });
      if (response.status >= 500 || response.status === 429) throw new Error("retry");
    } catch {
      // Send them again with the next events. By its id, none counts twice.
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
