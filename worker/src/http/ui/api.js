// The API, with the cookie of the session, and the stream of what changes.

const ROOT = new URL('..', document.baseURI)

/** An answer that is a problem document, or no answer at all. */
export class Problem extends Error {
  constructor(status, code, detail, diagnostics = []) {
    super(detail)
    Object.assign(this, { status, code, diagnostics })
  }
}

async function send(path, options = {}) {
  let answer
  try {
    answer = await fetch(new URL(path, ROOT), { ...options, credentials: 'same-origin' })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new Problem(0, 'unreachable', 'The worker does not answer. It may be restarting; the page tries again by itself.')
  }
  if (answer.ok || answer.status === 304) return answer
  const problem = await answer.json().catch(() => ({}))
  throw new Problem(answer.status, problem.code ?? 'error', problem.detail ?? `The worker answered ${answer.status}.`, problem.diagnostics)
}

/** Reads JSON of `/api/v1/…`; parameters that are empty are left out. */
export async function get(path, parameters = {}, signal) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== '' && value !== null && value !== undefined))
  const answer = await send(`api/v1/${path}${query.size ? `?${query}` : ''}`, { signal })
  return answer.json()
}

export async function getText(path, signal) {
  return (await send(`api/v1/${path}`, { signal })).text()
}

/** The address of an answer that the browser saves as a file. */
export function address(path, parameters) {
  return new URL(`api/v1/${path}?${new URLSearchParams(parameters)}`, ROOT).href
}

/** Sends a body to `/api/v1/…`: JSON, or a text of its own type. */
export async function post(path, body = {}, { method = 'POST', type, signal } = {}) {
  const headers = { 'content-type': type ?? 'application/json' }
  const answer = await send(`api/v1/${path}`, { method, headers, signal, body: type ? body : JSON.stringify(body) })
  return answer.status === 204 ? null : answer.json()
}

/** Who is signed in. */
export const session = async () => (await send('ui/session')).json()

/** Exchanges a token for a cookie that no script can read. */
export async function signIn(token) {
  return (await send('ui/session', { method: 'POST', headers: { authorization: `Bearer ${token}` } })).json()
}

export const signOut = () => send('ui/session', { method: 'DELETE' })

/** What is shown as a whole, page by page, up to `most` items. */
export async function all(path, parameters, key, most = 1000, signal) {
  const items = []
  let after
  do {
    const page = await get(path, { ...parameters, after, limit: Math.min(1000, most - items.length) }, signal)
    items.push(...page[key])
    after = page.next_after
  } while (after && items.length < most)
  return { items, more: Boolean(after) }
}

/**
 * Follows the stream of events while the page is seen: calls `on` with each event's name and data, and
 * `tell` with `live`, or with why it is not. Returns what ends it.
 */
export function follow(task, on, tell) {
  let current = null
  let ended = false
  const again = delay => setTimeout(() => !ended && !document.hidden && open(), delay)
  async function open() {
    current?.abort()
    const mine = (current = new AbortController())
    try {
      const answer = await send(`ui/events${task ? `?task=${task}` : ''}`, { signal: mine.signal })
      tell('live')
      await read(answer.body.getReader(), on)
      if (!mine.signal.aborted) again(250)
    } catch (error) {
      if (mine.signal.aborted) return
      tell(error.status === 401 ? 'signed out' : 'not connected', error)
      if (error.status !== 401 && error.status !== 403) again(2000)
    }
  }
  const seen = () => {
    current?.abort()
    if (!document.hidden && !ended) open()
  }
  document.addEventListener('visibilitychange', seen)
  seen()
  return () => {
    ended = true
    document.removeEventListener('visibilitychange', seen)
    current?.abort()
  }
}

/** Server-sent events: lines `event:` and `data:`, an empty line ends one. */
async function read(reader, on) {
  const decoder = new TextDecoder()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    const parts = (rest + decoder.decode(value, { stream: true })).split('\n\n')
    rest = parts.pop()
    for (const part of parts) {
      const lines = part.split('\n')
      const of = name => lines.filter(line => line.startsWith(`${name}:`)).map(line => line.slice(name.length + 1).trimStart())
      const data = of('data').join('\n')
      if (data) on(of('event')[0] ?? 'message', JSON.parse(data))
    }
  }
}
