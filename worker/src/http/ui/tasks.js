// Tasks: search, in pages.

import { get } from './api.js'
import { ago, badge, field, h, table, taskLink, workflowLink } from './dom.js'

const STATUSES = ['running', 'paused', 'completed', 'failed', 'cancelled', 'archived']

export async function view(ctx, place) {
  const names = ['workflow', 'status', 'step', 'incidents', 'after']
  const filter = Object.fromEntries(names.map(name => [name, ctx.query.get(name) ?? '']))
  const label = ctx.query.get('label') ?? ''
  const { workflows } = await get('workflows', { archived: true }, ctx.signal)
  const ids = [...new Set(workflows.map(one => one.workflow))].sort()
  await ctx.live(place, async () => {
    const [key, value] = label.split('=')
    const asked = { ...filter, limit: 50, ...(value === undefined ? {} : { [`label.${key}`]: value }) }
    return page(await get('tasks', asked, ctx.signal), filter, label, ids)
  }, 3)
}

function page({ tasks, next_after: next }, filter, label, workflows) {
  const more = new URLSearchParams(location.hash.split('?')[1])
  more.set('after', next)
  return h('div', { class: 'stack' },
    h('header', { class: 'head' }, h('h1', null, 'Tasks')),
    search(filter, label, workflows),
    table('Tasks by id', ['Task', 'Workflow', 'Status', 'Steps', 'Labels', 'Changed'], tasks.map(task => [
      taskLink(task.task_id), workflowLink(task.workflow, task.revision),
      [badge(task.status), task.incidents > 0 && [' ', badge(`${task.incidents} incident${task.incidents > 1 ? 's' : ''}`, 'bad')]],
      task.current_steps.join(', ') || '–', Object.entries(task.labels).map(([key, value]) => `${key}=${value}`).join(', ') || '–', ago(task.updated_at),
    ]), { keys: tasks.map(task => task.task_id), empty: 'No task matches.', hideCaption: true }),
    h('nav', { class: 'actions', 'aria-label': 'Pages' },
      filter.after && h('button', { onclick: () => history.back() }, 'Page before'),
      next && h('a', { class: 'button', href: `#/tasks?${more}` }, 'Next page')))
}

function search(filter, label, workflows) {
  const any = [['', 'any']]
  return h('form', { class: 'filters', onsubmit: event => {
    event.preventDefault()
    const wanted = new URLSearchParams([...new FormData(event.target)].filter(([, value]) => value))
    location.hash = `#/tasks?${wanted}`
  } },
  field('Workflow', 'workflow', { value: filter.workflow, options: any.concat(workflows.map(id => [id, id])) }),
  field('Status', 'status', { value: filter.status, options: any.concat(STATUSES.map(status => [status, status])) }),
  field('Step', 'step', { value: filter.step }),
  field('Label (key=value)', 'label', { value: label }),
  field('Incidents', 'incidents', { value: filter.incidents, options: [['', 'any'], ['true', 'open ones only']] }),
  h('button', { class: 'primary' }, 'Search'))
}
