// The shell: navigation, sign-in, theme, and what all views share.

import { Problem, follow, session as whoAmI, signIn, signOut } from './api.js'
import { badge, h, serverTime, show, toast } from './dom.js'
import * as agreement from './agreement.js'
import * as goals from './goals.js'
import { taskOfKey } from './keys.js'
import * as labels from './labels.js'
import * as letters from './letters.js'
import * as log from './log.js'
import * as now from './now.js'
import * as outbox from './outbox.js'
import * as people from './people.js'
import * as stuck from './stuck.js'
import * as task from './task.js'
import * as tasks from './tasks.js'
import * as trial from './trial.js'
import * as workflow from './workflow.js'

/** Name in the address, name in the navigation, and what shows it. */
const VIEWS = {
  now: ['Now', now.view],
  stuck: ['Stuck', stuck.view],
  tasks: ['Tasks', tasks.view],
  task: [null, task.view],
  dead: ['Dead', letters.deadView],
  rejected: ['Rejected', letters.rejectedView],
  jobs: [null, letters.jobsView],
  outbox: [null, outbox.view],
  log: ['Log', log.view],
  workflow: ['Workflows', workflow.view],
  trial: [null, trial.view],
  people: ['People', people.view],
  goals: ['Goals', goals.view],
  agreement: ['Agreement', agreement.view],
  labels: ['Labels', labels.view],
}

const main = document.getElementById('main')
let session = null
/** The view that is shown: its abort controller, what it does with each status, when its task changes. */
let shown = null
let status = null
let stopFollowing = null
let followed

/** What a view is given. */
function context(name, parts, query) {
  const controller = new AbortController()
  const view = {
    parts, query, session,
    signal: controller.signal,
    statusHandlers: [],
    taskHandlers: [],
    end: () => controller.abort(),
    /** Calls `handler` with the newest status, now and with each later one. */
    onStatus(handler) {
      view.statusHandlers.push(handler)
      if (status) handler(status)
    },
    /** Calls `handler` whenever the task of the address has changed. */
    onTask(handler) {
      view.taskHandlers.push(handler)
    },
    /** Whether the role of the session is one of these. */
    may: (...roles) => roles.includes(session.role),
    title(text) {
      document.title = `${text} · Glyph`
    },
    /** Shows what `load` makes, again whenever the log has grown, `seconds` apart at least. */
    async live(place, load, seconds = 2) {
      let at = null
      let last = 0
      let busy = false
      const again = async force => {
        if (busy) return
        busy = true
        last = Date.now()
        at = status?.database?.log_end
        try {
          const node = await load()
          if (!controller.signal.aborted) show(place, node)
        } catch (error) {
          if (error.name === 'AbortError') return
          if (!(error instanceof Problem)) console.error(error)
          if (force || error.status === 401) problem(error, place)
        } finally {
          busy = false
        }
      }
      view.reload = () => again(true)
      await again(true)
      view.onStatus(seen => {
        const grown = seen.database?.log_end !== at
        if (grown && Date.now() - last >= seconds * 1000) again(false)
      })
    },
    /** Does what an operator asked for, says how it ended, and shows what has changed. */
    async act(what, work) {
      try {
        const said = await work()
        toast(said ?? `${what}: done`, 'good')
      } catch (error) {
        if (!(error instanceof Problem)) throw error
        toast(`${what}: ${error.message}`, 'bad')
        if (error.status === 401) signInView(error.message)
      }
      try {
        await view.reload?.()
      } catch (error) {
        // Where it led to another page, this one is over.
        if (error.name !== 'AbortError') throw error
      }
    },
  }
  return view
}

async function route() {
  if (!session) return
  const [path, search] = location.hash.replace(/^#\/?/, '').split('?')
  const [name, ...parts] = (path || 'now').split('/').map(decodeURIComponent)
  const [label, view] = VIEWS[name] ?? []
  shown?.end()
  navigation(name)
  if (!view) {
    problem(new Problem(404, 'not_found', `There is no view “${name}”.`), main)
    return
  }
  const ctx = (shown = context(name, parts, new URLSearchParams(search)))
  ctx.title(label ?? 'Task')
  listen(name === 'task' ? parts[0] : null)
  main.replaceChildren(h('p', { class: 'empty', role: 'status' }, 'Loading'))
  window.scrollTo(0, 0)
  try {
    await view(ctx, main)
  } catch (error) {
    if (error.name === 'AbortError') return
    if (!(error instanceof Problem)) console.error(error)
    problem(error, main)
  }
}

/** Says what went wrong in the place of what should be there. */
function problem(error, place) {
  if (error.status === 401) return signInView(error.message)
  const heading = { 0: 'No connection', 403: 'Not permitted', 404: 'Not found', 503: 'Not available now' }[error.status] ?? 'This did not work'
  place.replaceChildren(h('section', { class: 'problem', role: 'alert' },
    h('h1', null, heading), h('p', null, error.message),
    error.status === 403 && session && h('p', null, `You are signed in as ${session.name}, with the role ${session.role}.`),
    h('button', { onclick: session ? route : start }, 'Try again')))
}

/** One stream for the page; the stream of a task also tells of that task. */
function listen(taskId) {
  if (stopFollowing && followed === taskId) return
  stopFollowing?.()
  followed = taskId
  const live = document.getElementById('live')
  stopFollowing = follow(taskId, (name, data) => {
    if (name === 'status') {
      status = data
      serverTime(data.at)
      attention()
      for (const handler of shown?.statusHandlers ?? []) handler(data)
    } else if (name === 'task') {
      for (const handler of shown?.taskHandlers ?? []) handler(data)
    }
  }, (state, error) => {
    live.textContent = state
    live.className = `live ${state === 'live' ? 'good' : 'bad'}`
    live.title = error?.message ?? 'What you see is at most about two seconds old'
    if (error?.status === 401) signInView('The session has ended: sign in again.')
  })
}

/** Numbers beside the views that want to be looked at. */
function attention() {
  const database = status.database
  const dead = status.queues?.find(queue => queue.queue === 'dead')?.messages ?? 0
  const incidents = (database?.steps ?? []).reduce((sum, step) => sum + step.with_incidents, 0)
  const counts = { stuck: incidents, dead }
  for (const [name, count] of Object.entries(counts)) {
    const place = document.querySelector(`#nav [data-view="${name}"] .count`)
    if (place) place.textContent = count > 0 ? count : ''
  }
  document.getElementById('nav').classList.toggle('unready', !status.ready)
}

function navigation(current) {
  const of = { task: 'tasks', jobs: 'dead', trial: 'workflow', outbox: 'now' }[current] ?? current
  const links = Object.entries(VIEWS).filter(([, [label]]) => label).map(([name, [label]]) =>
    h('a', { href: `#/${name}`, 'data-view': name, 'aria-current': name === of ? 'page' : null }, label, ' ', h('span', { class: 'count' })))
  document.getElementById('nav').replaceChildren(...links)
  // On a phone the views are one line, which scrolls.
  document.querySelector('#nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' })
  if (status) attention()
}

function signInView(why) {
  shown?.end()
  stopFollowing?.()
  stopFollowing = null
  session = null
  document.getElementById('nav').replaceChildren()
  document.getElementById('account').replaceChildren()
  document.title = 'Sign in · Glyph'
  const message = h('p', { class: 'hint', role: 'alert' }, why ?? '')
  const form = h('form', { class: 'panel', onsubmit: async event => {
    event.preventDefault()
    try {
      begin(await signIn(new FormData(form).get('token').trim()))
    } catch (error) {
      message.textContent = error.status === 401 ? 'The worker does not know this token.' : error.message
    }
  } },
  h('h1', null, 'Sign in'),
  h('p', null, 'Paste a token of the API. The browser keeps it in a cookie that no script can read, until it is closed or you sign out.'),
  h('div', { class: 'field' }, h('label', { for: 'token' }, 'Token'), h('input', { id: 'token', name: 'token', type: 'password', required: true, autocomplete: 'current-password' })),
  message, h('button', { class: 'primary' }, 'Sign in'))
  main.replaceChildren(form)
  form.querySelector('input').focus()
}

function begin(who) {
  session = who
  const account = document.getElementById('account')
  account.replaceChildren(h('span', { class: 'who', title: `Glyph ${who.version}` }, who.name, ' ', badge(who.role, 'dim')),
    who.tokens ? h('button', { type: 'button', class: 'quiet', onclick: async () => {
      await signOut()
      signInView('You are signed out.')
    } }, 'Sign out') : '')
  if (who.role === 'annotator') {
    main.replaceChildren(h('section', { class: 'problem' }, h('h1', null, 'This console is for those who run the work'),
      h('p', null, 'Your token is an annotator’s: it opens your own work through the client that you label with. The console needs a token of the role viewer, producer or operator.')))
    return
  }
  route()
}

const start = () => whoAmI().then(begin, error => (error.status === 401 ? signInView() : problem(error, main)))

const THEMES = ['system', 'light', 'dark']

function theme(wanted) {
  if (wanted === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = wanted
  document.getElementById('theme').textContent = `Theme: ${wanted}`
  try {
    localStorage.setItem('glyph-theme', wanted)
  } catch { /* A browser that keeps nothing shows the theme of the system next time. */ }
}

document.getElementById('find').onsubmit = async event => {
  event.preventDefault()
  const input = event.target.elements.task
  const text = input.value.trim()
  if (!text) return
  try {
    location.hash = `#/task/${await taskOfKey(text)}`
    input.value = ''
  } catch (error) {
    toast(error.message, 'bad')
  }
}

document.getElementById('theme').onclick = () => {
  const now = document.documentElement.dataset.theme ?? 'system'
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length])
}

window.onhashchange = route
try {
  theme(THEMES.find(known => known === localStorage.getItem('glyph-theme')) ?? 'system')
} catch {
  theme('system')
}
start()
