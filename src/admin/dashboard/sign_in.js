// SPDX-License-Identifier: MIT
// The admin token for a cookie. Where one wanted to go is still in the address then.

const form = document.getElementById('form');
const token = document.getElementById('token');
const problem = document.getElementById('problem');
const button = form.querySelector('button');

async function signIn() {
    const answer = await fetch('/sign-in', {
        method: 'POST',
        headers: { 'Authkitd-Admin': '1', 'Content-Type': 'application/json' },
        body: JSON.stringify({ token: token.value }),
    });
    if (answer.ok) return '';
    if (answer.status === 401) return 'That is not the token.';
    return (await answer.json()).error.message;
}

form.addEventListener('submit', async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.textContent = '';
    try {
        const words = await signIn();
        if (words === '') return location.reload();
        problem.textContent = words;
    } catch {
        problem.textContent = 'authkitd can’t be reached. Is it running?';
    }
    button.disabled = false;
    token.select();
    token.focus();
});
