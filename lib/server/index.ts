/**
 * Models over HTTP, as OpenAI's API has it.
 *
 * @module
 */

import cors from "@fastify/cors";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyServerOptions } from "fastify";
import type { Registry } from "prom-client";
import type { AddressInfo } from "node:net";
import { ColdstartError, type AnswerOptions } from "../index.js";
import { createMetrics, type MetricsOptions } from "../prometheus/index.js";
import { checkHost, Clients, isLoopback, Keys } from "./auth.js";
import { Connections } from "./connections.js";
import { chatCompletions } from "./chat-completions.js";
import { completions } from "./completions.js";
import { embeddings, rerank } from "./embeddings.js";
import { apiError, RequestError, toApiError } from "./errors.js";
import { Exchange } from "./exchange.js";
import { Models, type ServerSource } from "./models.js";
import { CHAT, COMPLETION, DETOKENIZE, EMBEDDINGS, RERANK, TOKENIZE } from "./schemas.js";

export type { ServerSource };

export interface ServerOptions {
  /** Where to listen. Default `"127.0.0.1"`: this machine alone. Others take `apiKeys`, or `insecure`. */
  host?: string;
  /** Default 8080; 0: any that is free. */
  port?: number;
  /** Of one model: its name in requests. Default: what its file says. */
  alias?: string;
  /** Options of answers where a request says nothing, such as `chatTemplate`. */
  defaults?: Omit<AnswerOptions, "signal" | "tools" | "toolChoice">;
  /** Requests must have one of these: `Authorization: Bearer …`. */
  apiKeys?: readonly string[];
  /** Let every machine that reaches the server ask it, without a key. Default false. */
  insecure?: boolean;
  /** Origins of pages that may ask from a browser, such as `"https://example.com"`. Default: none. */
  cors?: readonly string[];
  /** Bytes of a request, at most. Default 32 MiB. */
  bodyLimit?: number;
  /** Milliseconds that a request may take, at most. Default: as long as it takes. */
  requestTimeout?: number;
  /** Requests of one client (a key, or an address) at a time. Default 256. */
  maxPerClient?: number;
  /** Milliseconds that `close()` waits for requests under way before it ends them. Default 30000. */
  drainTimeout?: number;
  /** Tell Prometheus at /metrics, perhaps in so many [buckets](https://prometheus.io/docs/practices/histograms/). Default true. */
  metrics?: boolean | Pick<MetricsOptions, "bucketsPerOctave">;
  /** Also tell Prometheus on this port of this machine, without a key. Default: none. */
  metricsPort?: number;
  /** As Fastify has it: `true`, or options of pino. No keys, prompts or answers are written. Default false. */
  logger?: FastifyServerOptions["logger"];
}

/** A server that runs. */
export interface Server extends AsyncDisposable {
  /** `"http://127.0.0.1:8080"` */
  readonly url: string;
  /** Where Prometheus is told, with `metricsPort`. */
  readonly metricsUrl: string | undefined;
  /** Takes no more requests, lets those under way end, and resolves then. The models stay loaded. */
  close(): Promise<void>;
}

const MIB = 2 ** 20;
/** Milliseconds for saying that a request was cut short, when the server ends. */
const LAST_WORDS = 1000;

/**
 * Serves a model, or those of a pool, each loaded when it is asked for. Resolves when it listens.
 *
 * Rejects with `INVALID_OPTION`, also for a host that others reach without `apiKeys`, and as Node.js's servers (`EADDRINUSE`).
 */
export async function createServer(source: ServerSource, options: ServerOptions = {}): Promise<Server> {
  const { host = "127.0.0.1", port = 8080, apiKeys = [], insecure = false, drainTimeout = 30_000 } = options;
  if (!isLoopback(host) && apiKeys.length === 0 && !insecure) {
    throw new ColdstartError(
      "INVALID_OPTION",
      `host is "${host}", which other machines reach, and there are no apiKeys.`,
      {
        remedy: "Give apiKeys, or insecure: true where the network is trusted.",
        details: { option: "host", value: host },
      },
    );
  }
  const end = new AbortController();
  const app = Fastify({
    logger: options.logger ?? false,
    bodyLimit: options.bodyLimit ?? 32 * MIB,
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, strict: false } },
  });
  const connections = new Connections(app.server);
  const models = new Models(source, options.alias);
  const isClosing = () => end.signal.aborted || isDraining;
  let isDraining = false;
  if (options.cors && options.cors.length > 0) await app.register(cors, { origin: [...options.cors] });
  answerErrors(app);
  const isTold = options.metrics !== false || options.metricsPort !== undefined;
  const told = typeof options.metrics === "object" ? options.metrics : {};
  const registry = isTold ? createMetrics(source, told) : undefined;
  addRoutes(app, { models, registry, options, end: end.signal, isClosing });
  const metrics = options.metricsPort === undefined ? undefined : Fastify();
  if (metrics && registry) answerMetrics(metrics, registry);
  await app.listen({ host, port });
  await metrics?.listen({ host: "127.0.0.1", port: options.metricsPort ?? 0 }).catch(async (error: unknown) => {
    await app.close();
    throw error;
  });
  const portOf = ({ server }: FastifyInstance) => (server.address() as AddressInfo).port;
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${portOf(app)}`;
  const metricsUrl = metrics && `http://127.0.0.1:${portOf(metrics)}/metrics`;
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= (async () => {
      isDraining = true;
      connections.end();
      const timer = setTimeout(() => end.abort(), drainTimeout);
      const last = setTimeout(() => app.server.closeAllConnections(), drainTimeout + LAST_WORDS);
      await Promise.all([app.close(), metrics?.close()]);
      clearTimeout(timer);
      clearTimeout(last);
    })();
    return closed;
  };
  return { url, metricsUrl, close, [Symbol.asyncDispose]: close };
}

function answerErrors(app: FastifyInstance): void {
  const answer = (reply: FastifyReply, { status, body, headers }: ReturnType<typeof apiError>) =>
    reply
      .code(status)
      .headers(headers ?? {})
      .send(body);
  app.setErrorHandler((error: Error & { statusCode?: number; validation?: unknown }, request, reply) => {
    if (error instanceof RequestError || error instanceof ColdstartError) {
      const api = toApiError(error);
      if (api.status >= 500)
        request.log.error({ code: error instanceof ColdstartError ? error.code : undefined }, error.message);
      return answer(reply, api);
    }
    const { statusCode = 500 } = error;
    // Fastify's own: a body that is no JSON, of wrong types, or too large.
    if (statusCode < 500) return answer(reply, apiError(statusCode, "invalid_request", error.message));
    request.log.error(error);
    return answer(reply, apiError(500, "internal_error", "The server failed."));
  });
  app.setNotFoundHandler((request, reply) =>
    answer(reply, apiError(404, "not_found", `There is no ${request.method} ${request.url.split("?")[0] ?? ""}.`)),
  );
}

function answerMetrics(app: FastifyInstance, registry: Registry): void {
  app.get("/metrics", async (_, reply) => reply.type(registry.contentType).send(await registry.metrics()));
}

interface Parts {
  models: Models;
  /** What Prometheus is told. */
  registry: Registry | undefined;
  options: ServerOptions;
  /** Ends what is under way. */
  end: AbortSignal;
  isClosing: () => boolean;
}

function addRoutes(app: FastifyInstance, { models, registry, options, end, isClosing }: Parts): void {
  const { apiKeys = [], host = "127.0.0.1", maxPerClient = 256, requestTimeout, defaults = {} } = options;
  const keys = new Keys(apiKeys);
  const clients = new Clients(maxPerClient);
  const checksHost = isLoopback(host) && keys.isOpen;

  app.get("/health", () => ({ status: "ok" }));
  app.get("/ready", (_, reply) => {
    const isReady = models.isReady && !isClosing();
    return reply.code(isReady ? 200 : 503).send({ status: isReady ? "ready" : "not ready" });
  });

  void app.register((guarded, _, done) => {
    guarded.addHook("onRequest", (request, _, next) => {
      if (checksHost) checkHost(request.headers.host);
      if (!keys.isOpen) keys.check(request.headers.authorization);
      next();
    });
    if (registry && options.metrics !== false) answerMetrics(guarded, registry);
    guarded.get("/v1/models", () => ({ object: "list", data: models.names.map(toModel) }));
    guarded.get<{ Params: { name: string } }>("/v1/models/:name", ({ params }) => {
      if (models.names.includes(params.name)) return toModel(params.name);
      throw new RequestError(apiError(404, "model_not_found", `There is no model ${params.name}.`, { param: "model" }));
    });

    // The schema has checked that the body is what it is taken for.
    const post = (path: string, schema: object, answer: (body: never, exchange: Exchange) => Promise<unknown>) =>
      guarded.post(path, { schema: { body: schema } }, async (request, reply) => {
        const client = keys.isOpen ? request.ip : keys.check(request.headers.authorization);
        const leave = clients.enter(client);
        const gone = new AbortController();
        const onClose = () => {
          gone.abort();
          leave();
        };
        if (reply.raw.closed) onClose();
        else reply.raw.once("close", onClose);
        const signals = [
          gone.signal,
          end,
          ...(requestTimeout === undefined ? [] : [AbortSignal.timeout(requestTimeout)]),
        ];
        const exchange = new Exchange(models, defaults, AbortSignal.any(signals), reply);
        const given = await answer(request.body as never, exchange);
        if (reply.sent || given === undefined) return reply;
        exchange.checkWhole();
        return given;
      });
    post("/v1/chat/completions", CHAT, chatCompletions);
    post("/v1/completions", COMPLETION, completions);
    post("/v1/embeddings", EMBEDDINGS, embeddings);
    post("/v1/rerank", RERANK, rerank);
    post("/tokenize", TOKENIZE, tokenize);
    post("/detokenize", DETOKENIZE, detokenize);
    done();
  });
}

function toModel(id: string) {
  return { id, object: "model", created: 0, owned_by: "coldstart" };
}

interface TokenizeBody {
  model?: string;
  prompt: string;
  add_special_tokens?: boolean | null;
}

async function tokenize(body: TokenizeBody, { models, signal }: Exchange): Promise<unknown> {
  return models.use(body.model, signal, async (model) => {
    const tokens = await model.tokenize(body.prompt, { addSpecial: body.add_special_tokens ?? true });
    return { tokens, count: tokens.length, max_model_len: model.placement.contextLength };
  });
}

interface DetokenizeBody {
  model?: string;
  tokens: number[];
}

async function detokenize(body: DetokenizeBody, { models, signal }: Exchange): Promise<unknown> {
  return models.use(body.model, signal, async (model) => ({ prompt: await model.detokenize(body.tokens) }));
}
