// Outbox: messages that the broker refuses, why, and giving one up.

import { get, post } from './api.js'
import { ask, h, number, prose, table, taskLink } from './dom.js'

const LISTED = 200

export async function view(ctx, place) {
  ctx.title('Outbox')
  await ctx.live(place, async () => page(ctx, await get('outbox', { limit: LISTED }, ctx.signal)), 3)
  // An attempt to send one changes no task.
  const timer = setInterval(() => (ctx.signal.aborted ? clearInterval(timer) : !document.hidden && ctx.reload()), 5000)
}

function page(ctx, { pending, refused }) {
  return h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, 'Outbox'), h('span', { class: 'dim' }, `${number(pending)} ${pending === 1 ? 'row waits' : 'rows wait'} to be published`)),
    refused.length > 0 && h('p', { class: 'notice' }, 'Each is sent again and again, and holds back the later messages of its task. Bind a queue to its routing key, and it goes out by itself.'),
    table('Messages that the broker refuses', ['Message', 'Task', 'Routing key', '#Attempts', 'Why', 'Action'], refused.map(message => [
      h('code', { class: 'id', title: message.message_id }, message.message_id.slice(0, 8)), message.task_id ? taskLink(message.task_id, message.from_version) : '–', message.routing_key ? h('code', null, message.routing_key) : '–', number(message.attempts), prose(message.error),
      ctx.may('operator') ? h('button', { class: 'danger', onclick: () => drop(ctx, message) }, 'Drop') : '']),
    { keys: refused.map(message => message.message_id), empty: 'The broker refuses none.', hideCaption: true }),
    refused.length === LISTED && h('p', { class: 'notice' }, `These are the first ${number(LISTED)}.`))
}

async function drop(ctx, message) {
  const said = await ask('Drop a message', `No consumer gets ${message.routing_key ?? `the messages of versions ${message.from_version} to ${message.to_version}`}, and the later messages of its task go out. This cannot be undone.`, [], 'Drop', { danger: true })
  if (said) await ctx.act('Drop', async () => (await post(`outbox/${message.message_id}/drop`)).consequence)
}
