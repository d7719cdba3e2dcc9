// Shows the document beside this page. A change that is tried out brings what /me says, where somebody is logged in.
const document_ = new URL("openapi.json", window.location.href).href;

async function csrf() {
  try {
    const answer = await fetch("/api/v1/me");
    return answer.ok ? (await answer.json()).csrf : null;
  } catch {
    return null;
  }
}

window.SwaggerUIBundle({
  url: document_,
  dom_id: "#api",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null,
  requestInterceptor: async (request) => {
    if (!["GET", "HEAD"].includes((request.method || "GET").toUpperCase())) {
      const token = await csrf();
      if (token) request.headers["X-CSRF-Token"] = token;
    }
    return request;
  },
});
