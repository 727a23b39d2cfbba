// Log: what has happened lately, and what is committed from then on.

import { get } from './api.js'
import { exact, field, h, json, show, table, taskLink, workflowLink } from './dom.js'
import { sentence } from './events.js'

/** Items that are shown, and read at a time. */
const SHOWN = 200
/** So many commits before the newest are shown at first. */
const BEFORE = 100
const TYPES = ['workflow_started', 'annotation_submitted', 'consensus_calculated', 'step_completed', 'transition_occurred', 'incident_opened', 'incident_resolved', 'workflow_completed', 'workflow_failed', 'workflow_cancelled']

export async function view(ctx, place) {
  const { workflows } = await get('workflows', { archived: true }, ctx.signal)
  const filter = { workflow: ctx.query.get('workflow') ?? '', type: ctx.query.get('type') ?? '' }
  const page = { filter, items: [], after: null, stopped: null, isRead: false, ids: [...new Set(workflows.map(one => one.workflow))].sort() }
  const draw = () => {
    if (!ctx.signal.aborted) show(place, whole(page))
  }
  draw()
  let busy = false
  const read = async () => {
    if (busy) return
    busy = true
    try {
      let before
      do {
        before = page.after
        const found = await get('events', { ...filter, after: before, limit: SHOWN }, ctx.signal)
        page.after = found.next_after
        page.items = [...found.items.reverse(), ...page.items].slice(0, SHOWN)
        page.stopped = null
        draw()
      } while (page.after !== before)
      page.isRead = true
      draw()
    } catch (error) {
      if (error.name === 'AbortError') return
      page.stopped = error.message
      draw()
    } finally {
      busy = false
    }
  }
  let seen
  ctx.onStatus(async status => {
    const end = status.database?.log_end
    if (!end || end === seen) return
    seen = end
    page.after ??= Number.parseInt(end) > BEFORE ? `${Number.parseInt(end) - BEFORE}.0` : 'start'
    await read()
  })
}

function whole({ filter, items, stopped, ids, isRead }) {
  const any = [['', 'any']]
  return h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, 'Log'), h('span', { class: 'dim' }, 'What has happened lately, newest first')),
    h('form', { class: 'filters', onsubmit: event => {
      event.preventDefault()
      location.hash = `#/log?${new URLSearchParams([...new FormData(event.target)].filter(([, value]) => value))}`
    } }, field('Workflow', 'workflow', { value: filter.workflow, options: any.concat(ids.map(id => [id, id])) }),
    field('Kind', 'type', { value: filter.type, options: any.concat(TYPES.map(type => [type, type.replaceAll('_', ' ')])) }), h('button', { class: 'primary' }, 'Show')),
    stopped && h('p', { class: 'notice bad', role: 'alert' }, stopped),
    table('What has happened', ['When', 'Workflow', 'Task', 'What', 'By', 'Data'], items.map(item => row(item)),
      { keys: items.map(item => item.position), empty: isRead ? 'Nothing of this kind has happened lately.' : 'Loading', hideCaption: true }))
}

function row({ workflow, event, message }) {
  const when = text => h('time', { datetime: text }, exact(text))
  if (!event) return [message?.time ? when(message.time) : '–', '–', '–', `Message ${message?.type.replace(/^dev\.glyph\.|\.v\d+$/g, '') ?? ''}`, '–', json(message, 'Data')]
  return [when(event.occurred_at), workflowLink(workflow), taskLink(event.stream_id, event.version), sentence(event), event.metadata?.actor ?? '–', json(event.event_data, 'Data')]
}
