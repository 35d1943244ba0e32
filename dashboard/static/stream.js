// The only module that knows server-sent events.

const QUIET_MS = 40_000;

// Calls handlers {anomaly, incident, tick, reload, state}; returns a function that ends the stream.
export function follow(view, entity, handlers) {
  let source = null;
  let timer = null;
  let watchdog = null;
  let wasOpen = false;
  let ended = false;

  function alive() {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => again(0), QUIET_MS);
  }

  function again(waitMs) {
    source?.close();
    clearTimeout(timer);
    if (!ended) timer = setTimeout(open, waitMs);
  }

  function open() {
    const query = new URLSearchParams({ view });
    if (entity) query.set("entity", entity);
    source = new EventSource(`/v1/stream?${query}`);
    source.addEventListener("hello", () => {
      alive();
      handlers.state?.("on");
      if (wasOpen) handlers.reload?.();
      wasOpen = true;
    });
    source.addEventListener("heartbeat", alive);
    for (const kind of ["anomaly", "incident", "tick"]) {
      source.addEventListener(kind, (event) => {
        alive();
        handlers[kind]?.(JSON.parse(event.data));
      });
    }
    source.addEventListener("reload", () => {
      handlers.reload?.();
      again(1000);
    });
    source.onerror = () => {
      handlers.state?.("off");
      if (source.readyState === EventSource.CLOSED) again(3000);
    };
  }

  open();
  return () => {
    ended = true;
    clearTimeout(timer);
    clearTimeout(watchdog);
    source?.close();
  };
}
